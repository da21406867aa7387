"""Side effects of a call: tensors that it changes, and results in the memory of its arguments."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Memory:
    """The arguments and parameters of a call before it is made."""

    arguments: Mapping[str, torch.Tensor]
    parameters: Mapping[str, torch.Tensor]
    # {name of an argument: copy of the tensor of which it is a view, or of itself}
    contents: Mapping[str, torch.Tensor]
    # {name: (number of writes, requires_grad)} of arguments and parameters
    states: Mapping[str, tuple[int, bool]]

    def changed(self) -> tuple[str, ...]:
        """The names of the tensors that have been written to, also around an argument, or detached or attached.

        A write of equal contents counts: it invalidates graphs of autograd.
        """
        tensors = {**self.arguments, **self.parameters}
        return tuple(
            name
            for name, tensor in tensors.items()
            if _state(tensor) != self.states[name]
            or (name in self.contents and not _same(_whole(tensor), self.contents[name]))
        )

    def lent(self, results: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
        """The names of the arguments and parameters whose memory a result shares."""
        places = {_place(result) for result in results.values() if result.numel()}
        tensors = {**self.arguments, **self.parameters}
        return tuple(name for name, tensor in tensors.items() if tensor.numel() and _place(tensor) in places)


def remember(arguments: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]) -> Memory:
    """The memory of a call that is about to be made."""
    contents = {name: _whole(tensor).clone() for name, tensor in arguments.items()}
    states = {name: _state(tensor) for name, tensor in {**arguments, **parameters}.items()}
    return Memory(arguments, parameters, contents, states)


def _state(tensor):
    return tensor._version, tensor.requires_grad


def _whole(tensor):
    """The tensor of which this one is a view, with the memory around it; itself if it is no view."""
    return (tensor if tensor._base is None else tensor._base).detach()


def _place(tensor):
    """(device, address of the memory); the tensor itself in place of an address if the device tells none."""
    storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()  # before 2.0
    try:
        return tensor.device, storage.data_ptr()
    except RuntimeError:
        return tensor.device, id(tensor)


def _same(tensor, before):
    """True if all elements are equal. NaN equals NaN."""
    return bool(((tensor == before) | ((tensor != tensor) & (before != before))).all())
