"""Claims about programs of torch.export."""

import pytest
import torch
from torch import nn

from .claim import Claim
from .comparing import arbitrary, array, filled, internal_warnings, near, reference_of, since

pytestmark = [
    *internal_warnings,
    pytest.mark.skipif(not since("2.5"), reason="before 2.5 export is not tested with tensors that are one"),
]


def export_with_tensors_of_their_own(module: nn.Module, *given: torch.Tensor) -> "torch.export.ExportedProgram":
    """A program that reads each of its inputs: no two of the tensors that it is made with are one."""
    return torch.export.export(module, tuple(tensor.clone() for tensor in given), strict=False)


EXPORTED_OF_ITSELF = Claim(
    id="exported-of-itself",
    says="A program that `torch.export` makes of `attention(x, x, x)` can be called with three tensors.",
    verdict="false since 2.6",
    because="""
    Since 2.6 the program takes one of them for all three, silently: called with `(query, memory, memory)` it attends
    from `memory` to itself. So it does with two masks that were one tensor. In 2.5 the result is that of the three.
    Clone each tensor of the example, as below. PyTorch's thread is
    [#144683](https://github.com/pytorch/pytorch/issues/144683).
    """,
    recipe=(export_with_tensors_of_their_own,),
    proof=("test_a_program_takes_one_tensor_for_three", "test_a_program_of_clones_takes_three"),
)


def attention(training: bool) -> nn.MultiheadAttention:
    return filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(training)


def test_a_program_takes_one_tensor_for_three(training):
    model, query, memory = attention(training), arbitrary(2, 3, 4), arbitrary(2, 3, 4) + 1
    program = torch.export.export(model, (query, query, query), strict=False).module()
    taken = memory if since("2.6") else query
    expected, _ = reference_of(model)(array(taken), array(memory), array(memory))
    near(program(query, memory, memory)[0], expected)


def test_a_program_of_clones_takes_three(training):
    model, query, memory = attention(training), arbitrary(2, 3, 4), arbitrary(2, 3, 4) + 1
    expected, _ = reference_of(model)(array(query), array(memory), array(memory))
    near(export_with_tensors_of_their_own(model, query, query, query).module()(query, memory, memory)[0], expected)
