"""Calls with right masks and a wrong sequence, as a table: key and value of other lengths, samples or features.

Documented are a key (N, S, E) and a value (N, S, Ev) of the same samples and length, and a memory of as many samples as
the target has: anything else is an error (clause 9), whatever it says. Sizes of 1 are not tried: torch broadcasts them.
"""

from dataclasses import dataclass, replace

from .table import CALLEES, CALLS, RAISES, UNHELPFUL, Fault, WrongCall

_SDPA = "scaled_dot_product_attention"


@dataclass(frozen=True)
class SequenceFault(Fault):
    """What is wrong with sequences beside a right mask, or none.

    of: names of the inputs. more: what is added to their sizes: (samples, length, features). view: the input is the
    beginning of longer sequences, which go on behind it in memory. beside: a right attention mask is given.
    """

    of: tuple[str, ...] = ("value",)
    more: tuple[int, int, int] = (0, 0, 0)
    view: bool = False


@dataclass(frozen=True, repr=False)
class WrongSequence(WrongCall):
    """A row of the table; argument: the first of the inputs that are wrong."""

    @property
    def shape(self):
        """No mask is wrong."""
        return None

    @property
    def right_shape(self):
        return super().shape_of(self.argument)

    @property
    def conforming(self):
        """The outcomes that conform: what an error says of sequences is not specified."""
        return (RAISES, UNHELPFUL)

    @property
    def expected(self):
        return "an exception: the sequences do not fit each other (clause 9)"

    @property
    def other(self):
        """The mask that is given, if any is."""
        return next(iter(self.masks))

    def shape_of(self, name):
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

    def making_of(self, name, shape, device):
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
    """The faults without a mask, beside a right one, and with is_causal=True where that stands for a mask."""
    return (
        *faults,
        *(replace(fault, name=f"{fault.name}_beside_mask", beside=True) for fault in faults),
        *(replace(fault, name=f"{fault.name}_with_hint", hint=True) for fault in faults if hint),
    )


def _callees():
    """(what is called, its faults), with a value of its own in each attention."""
    for callee in CALLEES:
        if not callee.is_batched:
            continue
        if len(callee.inputs) == 3 and callee.variant != "self":
            faults = _SDPA_FAULTS if callee.module == _SDPA else _ATTENTION_FAULTS
            yield replace(callee, inputs=("query", "key", "value")), _beside_masks(faults, hint=callee.module == _SDPA)
        elif "memory" in callee.inputs:
            yield callee, _beside_masks(_MEMORY_FAULTS, hint=False)


SEQUENCES = tuple(
    WrongSequence(callee, fault.of[0], fault, mode)
    for callee, faults in _callees()
    for fault in faults
    for mode in callee.modes
)

ROWS = (*CALLS, *SEQUENCES)  # of both tables
