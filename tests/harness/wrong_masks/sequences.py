"""A table of calls with right masks and one wrong sequence: its length, batch size or number of features is wrong.

torch documents key (N, S, E) and value (N, S, Ev), with equal N and S, and a memory with the batch size of the target.
Other sizes are an error (clause 9), with any message. Sizes of 1 are left out: torch broadcasts them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..judgement.outcomes import RAISES, UNHELPFUL
from .table import CALLEES, CALLS, SDPA, Callee, Fault, WrongCall


@dataclass(frozen=True)
class SequenceFault(Fault):
    """A fault of the input sequences, without a mask or, if `beside`, with a right attention mask."""

    of: tuple[str, ...] = ("value",)  # names of the wrong inputs
    more: tuple[int, int, int] = (0, 0, 0)  # added to their sizes: (samples, length, features)
    view: bool = False  # the wrong input is a view of longer sequences, which continue behind it in memory


@dataclass(frozen=True, repr=False)
class WrongSequence(WrongCall):
    """A row of the table. `argument` is the first wrong input."""

    fault: SequenceFault

    @property
    def shape(self) -> None:
        """None, since no mask is wrong."""
        return None

    def without_fault(self) -> "WrongSequence":
        """The call with right sequences."""
        return replace(self, fault=replace(self.fault, name="right", more=(0, 0, 0), view=False))

    @property
    def right_shape(self) -> tuple[int, ...]:
        """The right shape of the wrong input."""
        return super().shape_of(self.argument)

    @property
    def conforming(self) -> tuple[str, ...]:
        """The kinds of outcome that conform: an error, with any message."""
        return (RAISES, UNHELPFUL)

    @property
    def expected(self) -> str:
        """The specified outcome, in words."""
        return "an exception: the sequences do not fit each other (clause 9)"

    @property
    def other(self) -> str:
        """The mask that is given if fault.beside."""
        return next(iter(self.masks))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an input, wrong if the fault is of this input."""
        shape = super().shape_of(name)
        if name not in self.fault.of:
            return shape
        samples, length, features = self.fault.more
        axis = 1 if self.is_sequence_first else 0
        wrong = list(shape)
        wrong[axis] += samples
        wrong[-2 if not self.is_sequence_first else 0] += length
        wrong[-1] += features
        return tuple(wrong)

    def making_of(self, name: str, shape: tuple[int, ...], device: str) -> list[str]:
        """Statements that make an input."""
        if not (self.fault.view and name in self.fault.of):
            return super().making_of(name, shape, device)
        *batch, length, features = shape
        whole, *_ = super().making_of("stored", (*batch, length + 1, features), device)
        return [whole, f"{name} = stored[..., :{length}, :]"]


_LENGTHS = (
    SequenceFault("value_too_long", more=(0, 1, 0)),
    SequenceFault("value_too_short", more=(0, -1, 0)),
)
_SAMPLES = SequenceFault("value_of_more_samples", more=(1, 0, 0))
_KEY = SequenceFault("key_of_more_features", of=("key",), more=(0, 0, 1))
_KEY_AND_VALUE = SequenceFault("more_samples", of=("key", "value"), more=(1, 0, 0))
_SDPA_FAULTS = (
    *_LENGTHS,
    SequenceFault("key_cut_short", of=("key",), more=(0, -1, 0), view=True),
    *(_KEY, _SAMPLES, _KEY_AND_VALUE),
)
_ATTENTION_FAULTS = (
    *_LENGTHS,
    *(_KEY, _SAMPLES, _KEY_AND_VALUE),
    SequenceFault("value_of_more_features", more=(0, 0, 1)),
)
_MEMORY_FAULTS = (
    SequenceFault("memory_of_more_samples", of=("memory",), more=(1, 0, 0)),
    SequenceFault("memory_of_more_features", of=("memory",), more=(0, 0, 1)),
)


def _beside_masks(faults, *, hint):
    """The faults without a mask, beside a right mask and, if `hint`, with is_causal=True instead of a mask."""
    return (
        *faults,
        *(replace(fault, name=f"{fault.name}_beside_mask", beside=True) for fault in faults),
        *(replace(fault, name=f"{fault.name}_with_hint", hint=True) for fault in faults if hint),
    )


def _callees() -> Iterator[tuple[Callee, tuple[SequenceFault, ...]]]:
    """(callee, its faults); attention is called with distinct query, key and value."""
    for callee in CALLEES:
        if not callee.is_batched:
            continue
        if len(callee.inputs) == 3 and callee.variant != "self":
            faults = _SDPA_FAULTS if callee.module == SDPA else _ATTENTION_FAULTS
            yield replace(callee, inputs=("query", "key", "value")), _beside_masks(faults, hint=callee.module == SDPA)
        elif "memory" in callee.inputs:
            yield callee, _beside_masks(_MEMORY_FAULTS, hint=False)


SEQUENCES = tuple(
    WrongSequence(callee, fault.of[0], fault, mode)
    for callee, faults in _callees()
    for fault in faults
    for mode in callee.modes
)

ROWS = (*CALLS, *SEQUENCES)  # both tables
