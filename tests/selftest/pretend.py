"""A device unknown to torch, made in Python. It uses the memory and the arithmetic of the CPU.

python -m pytest tests/conformance --import tests.selftest.pretend --device pretend

The device has no nested tensors, so the suite reports failures of nn.TransformerEncoder in eval mode.
"""

import torch
import torch.utils.checkpoint
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
_DEVICE = torch.device(NAME, 0)


class Pretended(torch.Tensor):
    """A tensor on the pretended device; `held` is the CPU tensor with its numbers."""

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
    """The argument for the CPU: the held tensor of a pretended one, the CPU instead of a device."""
    if isinstance(given, Pretended):
        return given.held
    return torch.device("cpu") if isinstance(given, torch.device) else given


def _on_cpu(operator, *args, **kwargs):
    """Run the operator on the CPU; its results are on the pretended device unless the call asks for the CPU."""
    results = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
    if kwargs.get("device") == torch.device("cpu"):
        return results
    given = {id(tensor.held): tensor for tensor in (*args, *kwargs.values()) if isinstance(tensor, Pretended)}

    def pretended(result):
        if not isinstance(result, torch.Tensor):
            return result
        # An argument that was changed in place is returned as the same tensor.
        return given[id(result)] if id(result) in given else Pretended(result)

    return tree_map(pretended, results)


_library = torch.library.Library("_", "IMPL")
_library.fallback(_on_cpu, "PrivateUse1")

# On a device made in Python, a Python exception in the backward pass ends the process, and a checkpoint raises one.
torch.utils.checkpoint.checkpoint = lambda function, *given, use_reentrant, **options: function(*given, **options)
