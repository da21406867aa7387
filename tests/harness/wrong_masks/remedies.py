"""Remedies for the entries of the ledger of wrong masks: a change of the call, or a check before the call.

The changed call is either right, and must be accepted, or still wrong, and must raise an error that names the mask.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from ..cases.case import is_padding
from ..judgement.outcomes import ACCEPTS, RAISES
from ..releases import contains
from .table import RIGHT, WrongCall


@dataclass(frozen=True)
class WrongMaskRemedy:
    """A remedy of an entry: a change of the call, or a check before it."""

    text: str  # an imperative sentence
    change: Callable[[WrongCall], WrongCall | None] | None = None  # returns None if the remedy does not fit the call
    # Returns a Python expression that is True for the right mask and False for the wrong one.
    check: Callable[[WrongCall], str] | None = None
    releases: str = ">=1.13"  # a version specifier of the releases in which the remedy helps
    becomes: str = ACCEPTS  # the outcome of the changed call: ACCEPTS or RAISES
    only_in_words: str = ""  # the condition under which it helps, if any
    cost: str = ""  # in words, if any
    tested: bool = True  # False if no installed release can make the changed call
    upgrade: bool = False  # True if the remedy is another release; see deviations.remedies.Remedy

    def holds_in(self, version: Version) -> bool:
        """True if the remedy helps in this release."""
        return contains(self.releases, version)

    def applied(self, call: WrongCall, version: Version) -> WrongCall | None:
        """The changed call; None if the remedy is a check, or does not fit the call."""
        del version
        return self.change(call) if self.change else None

    def assertion(self, call: WrongCall) -> str:
        """An expression that is True for the right mask alone; empty if the remedy is a change."""
        return self.check(call) if self.check else ""


def right(call: WrongCall) -> WrongCall:
    """The call with a right bool mask, and no other fault."""
    return replace(call, fault=replace(RIGHT, dtype="bool", inputs=call.fault.inputs))


def with_fault(**values: Any) -> Callable[[WrongCall], WrongCall]:
    """A change of a call: these fields of its fault get these values."""
    return lambda call: replace(call, fault=replace(call.fault, **values))


def in_training(call: WrongCall) -> WrongCall | None:
    """The call in training mode. None beside a hint: torch does not check the mask then."""
    return None if call.fault.hint else replace(call, mode="training")


def _sequence(call, size):
    """The name of an input of this length."""
    return next(name for name in call.callee.inputs if call.length(name) == size)


def _size(call, size):
    """An expression for this length, as a size of an input."""
    name = _sequence(call, size)
    is_sequence_first = call.callee.variant == "sequence_first" or (
        not call.callee.made and call.module == "multi_head_attention_forward"
    )
    if call.module == "scaled_dot_product_attention":
        return f"{name}.shape[-2]"
    return f"{name}.shape[{0 if is_sequence_first or not call.callee.is_batched else 1}]"


def has_right_shape(call: WrongCall) -> str:
    """An expression that compares the mask's shape with the shapes of the inputs."""
    if is_padding(call.argument):
        return f"mask.shape == ({call.callee.inputs[0]}.shape[0], {_size(call, call.right_shape[-1])})"
    sizes = ", ".join(_size(call, size) for size in call.right_shape)
    return f"mask.shape == ({sizes})"


def broadcasts(call: WrongCall) -> str:
    """An expression that is True if the mask broadcasts to the scores of scaled_dot_product_attention."""
    del call
    return "mask.ndim <= query.ndim and mask.expand(*query.shape[:-1], key.shape[-2]) is not None"


def is_there(call: WrongCall) -> str:
    """An expression that compares the mask's device with the device of the inputs."""
    return f"mask.device == {call.callee.inputs[0]}.device"


COMPARED_SHAPE = WrongMaskRemedy("Compare the mask's shape with the lengths before the call.", check=has_right_shape)
IN_TRAINING = WrongMaskRemedy(
    "Try the call once in training mode, where the error names the mask.",
    in_training,
    becomes=RAISES,
    only_in_words="if no hint is given",
)
AS_BOOL = WrongMaskRemedy("Give the mask as bool.", with_fault(dtype="bool"), cost="a bool mask can only hide")
IN_ITS_DTYPE = (
    WrongMaskRemedy("Give the mask as mask.to(query.dtype).", lambda call: with_fault(dtype=call.fault.inputs)(call)),
    AS_BOOL,
)
MOVED_TO_THE_DEVICE = (
    WrongMaskRemedy("Move the mask to the device of the inputs.", with_fault(elsewhere=False)),
    WrongMaskRemedy("Compare the mask's device with that of the inputs before the call.", check=is_there),
)
WITHOUT_HINT = WrongMaskRemedy(
    "Leave out the hint: the error then names the mask.", with_fault(hint=False), becomes=RAISES
)
