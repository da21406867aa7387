"""Attention written by hand, which inductor rewrites to scaled_dot_product_attention."""

from dataclasses import replace

import numpy as np

from reference.attention import attend

from ..cases.case import ScaledDotProduct
from ..cases.masks import Mask
from ..contents.arrays import directions
from ..expectation.changes import raising, with_kernel
from ..expectation.specification import Computation
from ..modes.written import FORMS, fills_with_a_number, is_written
from ..releases import since
from .call import Call
from .entry import Deviation
from .facts import has_empty_row
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    FIRST_KEY,
    SEES_A_KEY_BEFORE_2_5,
    Condition,
    Remedy,
    changed,
    until,
    upgrade,
)


def is_rewritten(call: Call) -> bool:
    """True if attention is written by hand, and was seen to be rewritten to scaled_dot_product_attention."""
    return is_written(call.case) and not call.is_as_written


def loses_scale(call: Call) -> bool:
    """True if attention beside a mask is rewritten, and its scale is not the one that is taken for granted."""
    case = call.case
    if not is_rewritten(call) or case.attn_mask is None or not FORMS[case.mode].divides:
        return False
    is_copied = FORMS[case.mode].permutes and not (1 in case.batch or case.L == 1)
    if is_copied and case.attn_mask.is_float:  # another rule is for copies, and keeps the scale
        return False
    return _scale(case) != _features(case) ** -0.5


def _scale(case):
    return case.D**-0.5 if case.scale is None else case.scale


def _features(case):
    """The number of features whose root is taken for the divisor: of the values for GPT-2's spelling, else of q."""
    return case.Dv if fills_with_a_number(case) else case.D


def passes_a_tensor(call: Call) -> bool:
    """True if attention beside a float mask is rewritten, and its divisor is a tensor."""
    return is_rewritten(call) and FORMS[call.case.mode].divides_by_tensor and call.case.attn_mask.is_float


def exchanges_key(call: Call) -> bool:
    """True if attention is rewritten with a key whose axes of heads and keys are exchanged, and which that changes."""
    case = call.case
    return is_rewritten(call) and FORMS[case.mode].turns_key_at_once and not case.batch[-1] == case.S == 1


def exchanges_key_of_a_batch(call: Call) -> bool:
    """True if exchanges_key is, for several samples and several heads, whose keys are copied."""
    return exchanges_key(call) and 1 not in call.case.batch


def _exchanged(computation: Computation, call: Call) -> Computation:
    """The computation with keys (N, S, heads, D) in the place of (N, heads, S, D), if the shapes let it be made.

    For one head, the scores q k are (N, S, L, 1), which a mask (..., L, S) broadcasts to (N, S, L, S). Since 2.12 the
    backward pass tests the shape of the gradient of the output.
    """
    case = call.case
    if _returns_values(call):
        return with_kernel(computation, lambda _: _values, ("sdpa",))
    is_broadcast = case.batch[-1] == 1 and case.attn_mask is not None and case.broadcast not in ("S", "0-D")
    if not (is_broadcast or case.batch[-1] == case.S):
        return raising(computation, "BackendCompilerFailed|InductorError", _UNFIT)
    if case.batch[-1] != case.S and directions(case) and since(call.release, "2.12"):
        return raising(computation, "RuntimeError", "output with shape .* doesn't match the broadcast shape")
    key = np.swapaxes(computation.arguments["key"], -3, -2)
    key = np.broadcast_to(key, (*key.shape[:-2], case.S, case.D))
    return replace(computation, arguments={**computation.arguments, "key": key})


def _returns_values(call):
    """True in 2.12 for one head, as many queries as keys, and no mask, if no gradient is recorded."""
    case = call.case
    is_one_head = case.batch[-1] == 1 and case.L == case.S and case.attn_mask is None
    return is_one_head and not directions(case) and since(call.release, "2.12") and not since(call.release, "2.13")


def _values(query, key, value, bias, scale):
    """A kernel whose weights (N, S, S, 1) are softmaxes of one score, multiplied with the values by element."""
    scores = query @ np.swapaxes(np.swapaxes(key, -3, -2), -2, -1)
    weights = np.exp(scores - scores)
    return weights * value, weights


_UNFIT = (
    "objects cannot be broadcast to a single shape|Attempting to broadcast a dimension"
    "|Expected size for first two dimensions of batch2 tensor|is invalid for input of size"
)


def _lost(computation: Computation, call: Call) -> Computation:
    usual = _features(call.case) ** -0.5
    return replace(computation, arguments={**computation.arguments, "scale": usual})


_TWO_DIMENSIONS = Condition("the mask has two dimensions or more", lambda case: not case.broadcast.endswith("-D"))
_BY_NUMBER = Remedy("Divide by a number.", changed(mode="written"), only=(EVERY_QUERY_SEES_A_KEY, _TWO_DIMENSIONS))
_TIMES = Remedy(
    "Multiply by 1 / s in the place of dividing by s, which inductor does not rewrite.", changed(mode="written_times")
)
_CALLED = Remedy(
    "Call torch.nn.functional.scaled_dot_product_attention with scale=1 / s.",
    changed(mode="eager"),
    only=(SEES_A_KEY_BEFORE_2_5,),
    cost="zeros, not NaN, for a fully masked query",
)


def _has_usual_scale(case):
    return case.attn_mask is None or _scale(case) == _features(case) ** -0.5


_CALLED_WITH_TWO_DIMENSIONS = replace(_CALLED, only=(SEES_A_KEY_BEFORE_2_5, _TWO_DIMENSIONS))
_CALLED_WITHOUT_MASK = Remedy(
    "Call torch.nn.functional.scaled_dot_product_attention with scale=s.", changed(mode="eager")
)
_DIVIDED = Remedy(
    "Divide by 1 / s in the place of multiplying by s, which inductor does not rewrite for several samples and heads.",
    changed(mode="written_key_permuted"),
)
_IN_TWO_STEPS = Remedy(
    "Permute the key as query and value, then transpose it: k.permute(0, 2, 1, 3).transpose(-2, -1).",
    changed(mode="written_permuted"),
    only=(
        EVERY_QUERY_SEES_A_KEY,
        _TWO_DIMENSIONS,
        until("2.12", Condition("the scale is that of the features, or there is no mask", _has_usual_scale)),
    ),
)

ENTRIES = (
    Deviation(
        id="written-empty-row",
        title="A fully masked query in attention written by hand gives zeros when compiled, but not eagerly",
        affects=">=2.5",
        upstream="not found",
        clause=3,
        trigger="attention written by hand that inductor rewrites to scaled_dot_product_attention, and a row of the"
        " mask that hides every key",
        instead="the row is 0; eagerly it is NaN, or the mean of all values if hidden scores are filled with finfo.min",
        applies=lambda call: is_rewritten(call) and has_empty_row(call.case, "sdpa"),
        change=lambda computation, call: with_kernel(computation, lambda _: attend, ("sdpa",)),
        pinned=ScaledDotProduct(mode="written", batch=(2, 2), L=2, S=2, D=2, Dv=2, attn_mask=Mask("float", "all")),
        remedies=(FIRST_KEY,),
    ),
    Deviation(
        id="written-scale-lost",
        title="Attention written by hand loses its scale when compiled",
        affects=">=2.4,<2.12",
        upstream="pytorch/pytorch#174049",
        clause=3,
        trigger="softmax(q @ k.transpose(-2, -1) / s + mask, -1) @ v with four dimensions, compiled with inductor,"
        " where s is not the root of the number of features (if heads are moved by permute, only for one sample, one"
        " head or one query); in the spelling of GPT-2 also torch.where(mask, ...) in the place of the sum",
        instead="inductor rewrites it to scaled_dot_product_attention, whose scale is 1 / sqrt(features), not 1 / s",
        applies=loses_scale,
        change=_lost,
        pinned=ScaledDotProduct(
            mode="written", batch=(2, 2), L=2, S=2, D=2, Dv=2, attn_mask=Mask("float", "causal"), scale=2.0
        ),
        remedies=(_TIMES, _CALLED, upgrade("2.12")),
    ),
    Deviation(
        id="written-key-transposed",
        title="Attention written by hand confuses heads and keys when compiled, if its key is permuted in one step",
        affects=">=2.4,<2.15",
        upstream="pytorch/pytorch#195320",
        clause=3,
        trigger="softmax(q.permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1) / s + mask) @ v.permute(0, 2, 1, 3), also"
        " without a mask (then also with * s in the place of / s), compiled with inductor, for one sample or one head",
        instead="inductor rewrites it to scaled_dot_product_attention with a key whose axes of heads and keys are"
        " exchanged: other numbers, silently, for as many heads as keys; for one head and a mask (..., S) a result of"
        " shape (N, S, L, D), of which the backward pass raises since 2.12; else RuntimeError",
        applies=lambda call: exchanges_key(call) and not exchanges_key_of_a_batch(call),
        change=_exchanged,
        pinned=ScaledDotProduct(mode="written_key_permuted", batch=(1, 2), L=2, S=2, D=2, Dv=2),
        remedies=(_IN_TWO_STEPS, _CALLED_WITH_TWO_DIMENSIONS, upgrade("2.15")),
    ),
    Deviation(
        id="written-batch-key-transposed",
        title="Attention written by hand confuses heads and keys of several samples when compiled without gradients",
        affects=">=2.12,<2.15",
        upstream="pytorch/pytorch#195320",
        clause=3,
        trigger="softmax(q.permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1) * s) @ v.permute(0, 2, 1, 3), compiled with"
        " inductor, for several samples, heads, queries and keys, where s is not 1 and no gradient is recorded",
        instead="inductor rewrites it to scaled_dot_product_attention with a key whose axes of heads and keys are"
        " exchanged: other numbers, silently, for as many heads as keys; else RuntimeError",
        applies=exchanges_key_of_a_batch,
        change=_exchanged,
        pinned=ScaledDotProduct(mode="written_key_permuted_times", batch=(2, 2), L=2, S=2, D=2, Dv=2),
        remedies=(_CALLED_WITHOUT_MASK, _DIVIDED, upgrade("2.15")),
    ),
    Deviation(
        id="written-tensor-scale-raises",
        title="Attention written by hand with a tensor as the divisor cannot be compiled",
        affects=">=2.12,<2.15",
        upstream="pytorch/pytorch#191203",
        clause=3,
        trigger="softmax(q @ k.transpose(-2, -1) / s + mask) @ v with four dimensions, compiled with inductor, where s"
        " is a tensor",
        instead="RuntimeError: inductor rewrites it to scaled_dot_product_attention, whose scale cannot be a tensor",
        applies=passes_a_tensor,
        change=lambda computation, call: raising(
            computation, "BackendCompilerFailed|InductorError", "Expected a value of type 'Optional.float.'"
        ),
        pinned=ScaledDotProduct(
            mode="written_by_tensor", batch=(2, 2), L=2, S=2, D=2, Dv=2, attn_mask=Mask("float", "causal")
        ),
        stage="call",
        remedies=(_BY_NUMBER, _TIMES, _CALLED_WITH_TWO_DIMENSIONS, upgrade("2.15")),
    ),
)
