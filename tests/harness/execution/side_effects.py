"""Side effects of a call: tensors and settings that it changes, and results in the memory of its arguments."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Memory:
    """The arguments and parameters of a call before it is made."""

    arguments: Mapping[str, torch.Tensor]
    parameters: Mapping[str, torch.Tensor]
    # {name of an argument: copy of the tensor of which it is a view, or of itself}
    contents: Mapping[str, torch.Tensor]
    # the elements of all parameters, one after the other
    values: torch.Tensor
    # {name: (number of writes, requires_grad)} of arguments and parameters
    states: Mapping[str, tuple[int, bool]]

    def changed(self) -> tuple[str, ...]:
        """The names of the tensors that have been written to, also around an argument, or detached or attached.

        A write of equal contents counts: it invalidates graphs of autograd.
        """
        tensors = {**self.arguments, **self.parameters}
        written = self._written()
        return tuple(
            name
            for name, tensor in tensors.items()
            if _state(tensor) != self.states[name]
            or name in written
            or (name in self.contents and not _same(_whole(tensor), self.contents[name]))
        )

    def _written(self):
        """The names of the parameters whose values have changed, also by writes through `data`, which count as none."""
        if torch.equal(_joined(self.parameters), self.values):
            return ()
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        pairs = zip(self.parameters.items(), self.values.split(sizes), strict=True)
        return [name for (name, parameter), before in pairs if not torch.equal(parameter.detach().reshape(-1), before)]

    def lent(self, results: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
        """The names of the arguments and parameters whose memory a result shares."""
        places = {_place(result) for result in results.values() if result.numel()}
        tensors = {**self.arguments, **self.parameters}
        return tuple(name for name, tensor in tensors.items() if tensor.numel() and _place(tensor) in places)


def remember(arguments: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]) -> Memory:
    """The memory of a call that is about to be made."""
    contents = {name: _whole(tensor).clone() for name, tensor in arguments.items()}
    states = {name: _state(tensor) for name, tensor in {**arguments, **parameters}.items()}
    return Memory(arguments, parameters, contents, _joined(parameters), states)


def _joined(parameters):
    """The elements of all parameters, one after the other, as a new tensor."""
    return torch.cat([torch.empty(0), *(parameter.detach().reshape(-1) for parameter in parameters.values())])


def _state(tensor):
    writes = 0 if tensor.is_inference() else tensor._version  # an inference tensor counts none
    return writes, tensor.requires_grad


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


# ---- settings ------------------------------------------------------------------------------------------------------


def _pair(read, write, owner=torch):
    """{the expression of a setting: (function that reads it, function that sets it)}; empty if torch has no such."""
    if not (hasattr(owner, read) and hasattr(owner, write)):
        return {}
    return {f"{owner.__name__}.{read}()": (getattr(owner, read), getattr(owner, write))}


RANDOM = "torch.get_rng_state()"
_SETTINGS: dict[str, tuple[Callable, Callable]] = {
    **_pair("is_grad_enabled", "set_grad_enabled"),
    **_pair("get_default_dtype", "set_default_dtype"),
    **_pair("are_deterministic_algorithms_enabled", "use_deterministic_algorithms"),
    **_pair("get_num_threads", "set_num_threads"),
    **_pair("get_float32_matmul_precision", "set_float32_matmul_precision"),
    "torch.initial_seed()": (torch.initial_seed, lambda seed: None),  # get_rng_state restores it
    **_pair("get_fastpath_enabled", "set_fastpath_enabled", getattr(torch.backends, "mha", torch)),
    **_pair("flash_sdp_enabled", "enable_flash_sdp", torch.backends.cuda),
    **_pair("math_sdp_enabled", "enable_math_sdp", torch.backends.cuda),
    **_pair("mem_efficient_sdp_enabled", "enable_mem_efficient_sdp", torch.backends.cuda),
    **_pair("get_rng_state", "set_rng_state"),
}


@contextmanager
def noting_settings(changed: list[str], module: nn.Module | None, draws: bool) -> Iterator[None]:
    """Context manager: adds to `changed` the names of settings of torch and of the module that the block changes.

    Settings of torch are restored. draws: True if the block may draw random numbers.
    """
    before = {name: read() for name, (read, _) in _SETTINGS.items() if not (draws and name == RANDOM)}
    parts = [(path, part, _attributes(part)) for path, part in (module.named_modules() if module is not None else ())]
    try:
        yield
    finally:
        for name, value in before.items():
            read, write = _SETTINGS[name]
            if not _equal(value, read()):
                changed.append(name)
                write(value)
        for path, part, attributes in parts:
            now = _attributes(part)
            changed += [
                ".".join(filter(None, (path, name)))
                for name in sorted(attributes.keys() | now.keys())
                if not (name in attributes and name in now and _equal(attributes[name], now[name]))
            ]


_LEAVES = (nn.Linear, nn.LayerNorm, nn.Dropout)  # most parts of a module, which are called by its own code alone


def _attributes(part):
    """{name: value} of the attributes of a module, without tensors: hooks of norms compute weights at each call.

    Of dictionaries, as of hooks and parameters, the values count, in order.
    """
    if type(part) in _LEAVES:
        return {"training": part.training}
    return {
        name: tuple(value.values()) if isinstance(value, dict) else value
        for name, value in vars(part).items()
        if not isinstance(value, torch.Tensor)
    }


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    return bool(one == other)
