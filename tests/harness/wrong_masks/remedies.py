"""What to do about each entry of the ledger of wrong masks: a change of the call, or a check to make before it.

The changed call is right, so that it must be accepted, or it is still wrong, and must raise an error that names the
mask.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..cases.case import is_padding
from ..releases import contains
from .sequences import WrongSequence
from .table import ACCEPTS, RAISES, Fault


@dataclass(frozen=True)
class WrongMaskRemedy:
    """text: an imperative sentence. releases: in which it helps, as a version specifier. cost: in words, or empty.

    change: WrongCall -> WrongCall, or None for a call that it says nothing about. becomes: ACCEPTS or RAISES, the
    outcome of the changed call. check: WrongCall -> a Python expression that is True of a right mask and False of the
    wrong one; in place of a change. tested: whether a release that is installed can be asked.
    """

    text: str
    change: Callable | None = None
    check: Callable | None = None
    releases: str = ">=1.13"
    becomes: str = ACCEPTS
    only_in_words: str = ""
    cost: str = ""
    tested: bool = True
    upgrade: bool = False

    def holds_in(self, version):
        """True if it helps in this release (a packaging.version.Version)."""
        return contains(self.releases, version)

    def applied(self, call):
        """The changed call, or None where the remedy says nothing about it."""
        return self.change(call)


RIGHT = Fault("right")  # which is none


def right(call):
    """The call with a right mask."""
    return replace(call, fault=replace(RIGHT, dtype="bool", inputs=call.fault.inputs))


def without_fault(call):
    """The call with sequences and masks of the right shapes, whatever was wrong with it."""
    if isinstance(call, WrongSequence):
        return replace(call, fault=replace(call.fault, name="right", more=(0, 0, 0), view=False))
    fault = call.fault
    return replace(call, fault=replace(RIGHT, inputs=fault.inputs, samples=fault.samples, beside=fault.beside))


def with_fault(**values):
    """The call with something else that is wrong, or no more."""
    return lambda call: replace(call, fault=replace(call.fault, **values))


def in_training(call):
    """The call in training mode; a hint keeps it there from looking at the mask."""
    return None if call.fault.hint else replace(call, mode="training")


def _sequence(call, size):
    """The input that has this length, in words of the call."""
    return next(name for name in call.callee.inputs if call.length(name) == size)


def _size(call, size):
    name = _sequence(call, size)
    is_sequence_first = call.callee.variant == "sequence_first" or (
        not call.callee.made and call.module == "multi_head_attention_forward"
    )
    if call.module == "scaled_dot_product_attention":
        return f"{name}.shape[-2]"
    return f"{name}.shape[{0 if is_sequence_first or not call.callee.is_batched else 1}]"


def has_right_shape(call):
    """The check of a mask's shape, against those of the inputs."""
    if is_padding(call.argument):
        return f"mask.shape == ({call.callee.inputs[0]}.shape[0], {_size(call, call.right_shape[-1])})"
    sizes = ", ".join(_size(call, size) for size in call.right_shape)
    return f"mask.shape == ({sizes})"


def broadcasts(call):
    """The check of a mask that scaled_dot_product_attention takes."""
    del call
    return "mask.ndim <= query.ndim and mask.expand(*query.shape[:-1], key.shape[-2]) is not None"


def is_there(call):
    """The check of where a mask is."""
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
