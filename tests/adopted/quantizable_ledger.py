"""The ledger of torch.ao.nn.quantizable.MultiheadAttention: its deviations from the specification, by release."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from reference.attention import MultiHeadAttention
from tests.harness.cases.case import MultiHead, is_padding
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import mask_arrays
from tests.harness.deviations.call import Call
from tests.harness.deviations.empty_rows import computes_plainly_on, sees_nothing_on
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.hidden_content import FILLED, hides_nonfinite_on
from tests.harness.deviations.remedies import FIRST_KEY, Remedy, sequences_first
from tests.harness.execution.release import Release
from tests.harness.expectation.arithmetic import Arithmetic
from tests.harness.expectation.backward import BackwardPass
from tests.harness.expectation.changes import raising, with_arithmetic, with_attention, with_masks
from tests.harness.expectation.specification import Computation
from tests.harness.judgement.outcomes import ACCEPTS, UNHELPFUL
from tests.harness.path_names import BY_SDPA, EXPLICIT, NATIVE_MHA
from tests.harness.wrong_masks import ledger as of_torch
from tests.harness.wrong_masks.entry import WrongMaskDeviation
from tests.harness.wrong_masks.remedies import AS_BOOL, COMPARED_SHAPE, MOVED_TO_THE_DEVICE
from tests.harness.wrong_masks.results import argument
from tests.harness.wrong_masks.table import WrongCall

_PATHS = (EXPLICIT, BY_SDPA, NATIVE_MHA)  # those of nn.MultiheadAttention, in whose place the module stands
_AFFECTS = ">=1.13"


@dataclass(frozen=True)
class Unmerged(MultiHeadAttention):
    """An attention that reads the contexts of its heads as if they were in the order of the output."""

    def _join(self, x):
        """(N, H, L, D) -> (N, L, E)"""
        N, H, L, D = x.shape
        return x.reshape(N, L, H * D)


def mixes_heads(call: Call) -> bool:
    """True if (N * H, L, D) read as (N, L, H * D) differs from the right order."""
    case = call.case
    return case.batch_first and case.num_heads > 1 and case.L > 1


def with_mixed_heads(computation: Computation, call: Call) -> Computation:
    """The computation with Unmerged in the place of the attention."""

    def unmerged(attention: MultiHeadAttention) -> MultiHeadAttention:
        return Unmerged(**{field.name: getattr(attention, field.name) for field in fields(attention)})

    return with_attention(computation, unmerged, call.case.blocks)


def with_nan(computation: Computation, call: Call) -> Computation:
    """The computation in which a float mask is added to scores of NaN, and a bool mask replaces them by -inf."""
    return with_arithmetic(computation, Arithmetic(fills=_fills(call.case)), call.case.blocks)


def _fills(case):
    """True where a hidden key gets the score -inf: everywhere, or an array that broadcasts to (N, H, L, S')."""
    if case.attn_mask is None or not case.attn_mask.is_float:
        return True
    if case.key_padding_mask is None:
        return False
    padding = _first_bytes(case) == 1 if case.key_padding_mask.is_float else mask_arrays(case)["key_padding_mask"]
    return np.pad(padding, ((0, 0), (0, case.appended_keys)))[:, None, None, :]


def with_bytes(computation: Computation, call: Call) -> Computation:
    """The computation in which a float padding mask hides keys whose number in memory begins with a byte of 1.

    masked_fill read every mask as bool before 2.1. A byte of 0 keeps the key, and any other raises.
    """
    first = _first_bytes(call.case)
    if call.case.L and (first > 1).any():
        return raising(computation, "RuntimeError", "Mask tensor can take 0 and 1 values only")
    return with_masks(computation, {"key_padding_mask": first == 1})


def _first_bytes(case):
    """uint8 (N, S): the first byte of each number of the float padding mask, which is the lowest."""
    dtype = case.key_padding_mask.dtype_beside(case.dtype)
    numbers = mask_arrays(case)["key_padding_mask"]
    numbers = np.ascontiguousarray(numbers, "float32" if dtype == "bfloat16" else dtype)
    skipped = 2 if dtype == "bfloat16" else 0
    return numbers.view("uint8").reshape(*numbers.shape, numbers.itemsize)[..., skipped]


def _with_bool_padding(case):
    return replace(case, key_padding_mask=Mask("bool", case.key_padding_mask.pattern))


def _has_float_padding(call):
    return call.case.key_padding_mask is not None and call.case.key_padding_mask.is_float


def _no_samples(computation, call):
    return raising(computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape")


def _has_fault(name: str) -> Callable[[WrongCall, Release], bool]:
    return lambda call, release: call.fault.name == name


def _is_elsewhere(padding):
    return lambda call, release: call.fault.name == "other_device" and is_padding(call.argument) == padding


def _as_bool(computation, call):
    name = argument(call, call.argument)
    return with_masks(computation, {name: computation.arguments[name] != 0})


ENTRIES = (
    Deviation(
        id="quantizable-empty-row-nan",
        title="A fully masked query gives NaN",
        affects=_AFFECTS,
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf",
        instead="the row's weights and output are NaN",
        applies=sees_nothing_on(*_PATHS),
        change=computes_plainly_on(*_PATHS),
        pinned=MultiHead(attn_mask=Mask("bool", "all")),
        remedies=(FIRST_KEY,),
    ),
    Deviation(
        id="quantizable-hidden-nan",
        title="NaN in a hidden position makes every query NaN",
        affects=_AFFECTS,
        upstream="pytorch/pytorch#57721",
        clause=5,
        trigger="a key that is hidden from every query holds NaN or inf",
        instead="0 * NaN is NaN: the outputs of the key's sample are NaN; so are its weights if a float mask hides the"
        " key",
        applies=hides_nonfinite_on(*_PATHS),
        change=with_nan,
        pinned=MultiHead(S=2, nonfinite="nan", key_padding_mask=Mask("bool", "one")),
        remedies=(FILLED,),
    ),
    Deviation(
        id="quantizable-batch-first",
        title="With batch_first=True and several heads, heads and positions are mixed up",
        affects=_AFFECTS,
        upstream="pytorch/pytorch#67651",
        clause=1,
        trigger="batch_first=True, more than one head and more than one query, with or without masks",
        instead="the output of each query is made of the heads of several queries, masked ones and others; the weights"
        " are right",
        applies=mixes_heads,
        change=with_mixed_heads,
        pinned=MultiHead(L=2, S=2, num_heads=2, attention="self"),
        remedies=(sequences_first(),),
    ),
    Deviation(
        id="quantizable-float-padding",
        title="A float padding mask is ignored, or raises",
        affects="<2.1",
        upstream="not found",
        clause=2,
        trigger="a float key_padding_mask; since 2.1 the module refuses it",
        instead="the first byte of each number is read as a bool: -inf, -1 and -1e4 in float32 and float64 hide"
        " nothing, and numbers whose first byte is neither 0 nor 1 raise",
        applies=_has_float_padding,
        change=with_bytes,
        pinned=MultiHead(S=2, key_padding_mask=Mask("float", "one")),
        remedies=(Remedy("Give the padding mask as bool.", _with_bool_padding),),
    ),
    Deviation(
        id="quantizable-no-samples",
        title="An empty batch raises",
        affects=_AFFECTS,
        upstream="not found",
        clause=1,
        trigger="a batch of no samples",
        instead="RuntimeError: the module reshapes the keys of no samples",
        applies=lambda call: call.case.N == 0,
        change=_no_samples,
        pinned=MultiHead(N=0),
        stage="call",
        no_remedy="make no such call: its result is empty",
    ),
)

BACKWARD_PASS = BackwardPass(replaces=True)

WRONG_MASKS = (
    *(entry for entry in of_torch.ENTRIES if entry.id == "causal-bias-as-memory"),
    WrongMaskDeviation(
        id="quantizable-padding-unnamed",
        title="A padding mask of the wrong shape is refused without its name",
        affects="<2.11",
        upstream="not found",
        instead=UNHELPFUL,
        effect="AssertionError without a message",
        message="^AssertionError: $",
        applies=lambda call, release: is_padding(call.argument) and call.shape not in (None, call.right_shape),
        remedies=(COMPARED_SHAPE,),
    ),
    WrongMaskDeviation(
        id="quantizable-mask-elsewhere",
        title="A bool attention mask on the meta device is ignored",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="masked_fill_ changes nothing",
        applies=_is_elsewhere(padding=False),
        change=lambda computation, call: with_masks(computation, {argument(call, call.argument): None}),
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="quantizable-mask-elsewhere-unnamed",
        title="An attention mask on another device is refused without its name",
        affects="<2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="RuntimeError about a non-meta tensor",
        message="Cannot inplace into non-meta tensor",
        applies=_is_elsewhere(padding=False),
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="quantizable-padding-elsewhere",
        title="A padding mask on another device is refused without its name",
        affects=_AFFECTS,
        upstream="not found",
        instead=UNHELPFUL,
        effect="RuntimeError about a tensor on device cpu",
        message="is not on the expected device meta|Cannot inplace into non-meta tensor",
        applies=_is_elsewhere(padding=True),
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="quantizable-uint8",
        title="A mask of dtype uint8 is taken for a bool mask",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="numbers other than 0 hide, after a warning that this is deprecated",
        applies=_has_fault("uint8"),
        change=_as_bool,
        remedies=(AS_BOOL,),
    ),
    WrongMaskDeviation(
        id="quantizable-int64-padding",
        title="A padding mask of dtype int64 is taken for a bool mask",
        affects="<2.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="1 hides and 0 does not",
        applies=lambda call, release: is_padding(call.argument) and call.fault.name == "int64",
        change=_as_bool,
        remedies=(AS_BOOL,),
    ),
    WrongMaskDeviation(
        id="quantizable-complex-padding",
        title="A complex padding mask is ignored",
        affects="<2.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="the first byte of a complex 1 is 0, which hides nothing",
        applies=lambda call, release: is_padding(call.argument) and call.fault.name == "complex64",
        change=lambda computation, call: with_masks(computation, {argument(call, call.argument): None}),
        remedies=(AS_BOOL,),
    ),
)
