"""A device of which torch knows nothing, made in Python: its memory and its arithmetic are the CPU's.

python -m pytest tests/conformance --import tests.selftest.pretend --device pretend

It has no nested tensors, which nn.TransformerEncoder finds out in eval: there the suite reports that it fails.
"""

import torch
import torch.utils.checkpoint
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
_DEVICE = torch.device(NAME, 0)


class Pretended(torch.Tensor):
    """A tensor that says it is on the device; `held` has the numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        described = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):
            tensor = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=_DEVICE, **described)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return _on_cpu(operator, *args, **(kwargs or {}))


def _held(given):
    """An argument as the CPU takes it."""
    if isinstance(given, Pretended):
        return given.held
    return torch.device("cpu") if isinstance(given, torch.device) else given


def _on_cpu(operator, *args, **kwargs):
    """What the operator does, on the CPU; its results are on the device unless the CPU is asked for."""
    results = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
    if kwargs.get("device") == torch.device("cpu"):
        return results
    given = {id(tensor.held): tensor for tensor in (*args, *kwargs.values()) if isinstance(tensor, Pretended)}

    def pretended(result):
        if not isinstance(result, torch.Tensor):
            return result
        return (
            given[id(result)] if id(result) in given else Pretended(result)
        )  # what is changed in place stays what it is

    return tree_map(pretended, results)


_library = torch.library.Library("_", "IMPL")
_library.fallback(_on_cpu, "PrivateUse1")

# An exception that Python raises on the way back ends the process on a device made in Python: a checkpoint raises one.
torch.utils.checkpoint.checkpoint = lambda function, *given, use_reentrant, **options: function(*given, **options)
