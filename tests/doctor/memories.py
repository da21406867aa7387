"""Remembers sequences that other sequences attend to, to see if padding is given in one place and not in another."""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import ReferenceType, ref

import torch

from .calls import FUNCTIONAL, MULTI_HEAD, Made
from .mistakes import Mistake, memory_padding
from .places import Place


@dataclass(frozen=True)
class _Memory:
    tensor: "ReferenceType[torch.Tensor]"
    numbers: tuple[int, int, int]  # address, size, version
    is_padded: bool
    mask: str  # the argument that pads it, or would
    place: Place


class Memories:
    """The sequences of one run that are attended to, as long as they are alive."""

    def __init__(self) -> None:
        self._known: list[_Memory] = []

    def mistakes_of(self, made: Made) -> Iterator[Mistake]:
        """The mistake that the memory of this call is padded elsewhere and not here, or the reverse."""
        for memory in _memories(made):
            for other in self._alike(memory):
                if other.is_padded != memory.is_padded:
                    yield memory_padding(_argument(other), _argument(memory), other.is_padded)
                    break
            self._known.append(memory)
        if (output := _padded_output(made)) is not None:
            self._known.append(output)

    def _alike(self, memory):
        self._known = [known for known in self._known if known.tensor() is not None]
        return [known for known in self._known if known.numbers == memory.numbers]


def _argument(memory):
    return f"{memory.mask} at {memory.place}"


def _memories(made) -> Iterator[_Memory]:
    """The sequence that another one attends to in this call."""
    if made.function in (MULTI_HEAD, FUNCTIONAL):
        if made.arguments["query"] is made.arguments["key"] or _is_per_head(made, "attn_mask"):
            return
        yield _memory(made, made.arguments["value"], "key_padding_mask")
    elif made.function.startswith("TransformerDecoder") and not _is_per_head(made, "memory_mask"):
        yield _memory(made, made.arguments["memory"], "memory_key_padding_mask")


def _is_per_head(made, name):
    """True if the attention mask has a slice for each sample, so that it may hold the padding."""
    return name in made.masks and made.masks[name].ndim > 2


def _padded_output(made):
    is_encoder = made.function.startswith("TransformerEncoder")
    if not is_encoder or "src_key_padding_mask" not in made.masks or not isinstance(made.result, torch.Tensor):
        return None
    return _memory(made, made.result, "src_key_padding_mask")


def _memory(made, tensor, mask):
    version = 0 if tensor.is_inference() else tensor._version
    numbers = (tensor.data_ptr(), tensor.numel(), version)
    return _Memory(ref(tensor), numbers, mask in made.masks, mask, made.place)
