"""Calls without samples, without keys, or without heads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..cases.case import MultiHead, ScaledDotProduct, masks_of
from ..cases.dtypes import PRECISIONS
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..execution.dangers import DIVIDE_BY_HEADS
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, with_kernel, without_weights
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA
from ..releases import since
from .call import Call
from .entry import Deviation
from .facts import drops_the_mask
from .nested_tensors import is_nested, memory_is_too_short
from .paths import prepares_masks
from .remedies import NO_EMPTY_MASK, Remedy, changed, off_the_fast_path, upgrade


@dataclass(frozen=True)
class SummingTheQuery:
    """The shortcut for no keys, which adds 0 times the sum of the whole query so that autograd records the query.

    The output is NaN if the sum is not finite.
    """

    kernel: Callable  # computes the attention without the sum
    limit: float  # largest finite number of the dtype in which the sum is computed

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_finite = np.abs(np.sum(query.real, dtype="float64")) <= self.limit
        return (context if is_finite else context * np.nan), weights


@dataclass(frozen=True)
class AttendingToNothing:
    """The shortcut for queries without features: zeros, plus 0 times the sum of all values so that autograd sees them.

    The output is NaN if the sum is not finite.
    """

    limit: float  # largest finite number of the dtype in which the sum is computed

    def __call__(self, query, key, value, bias, scale):
        is_finite = np.abs(np.sum(value.real, dtype="float64")) <= self.limit
        context = np.full((*query.shape[:-1], value.shape[-1]), 0.0 if is_finite else np.nan)
        return context, np.zeros((*query.shape[:-1], key.shape[-2]))


def views_nothing(call: Call, at_first: bool = False) -> tuple[str, ...]:
    """The blocks that reshape a mask per head, or a padding mask, though there is no sample or no key.

    at_first: those of the first layer alone.
    """
    case = call.case
    if not case.attentions:
        return ()
    native, viewing = call.blocks(NATIVE_MHA) + call.blocks(NATIVE_LAYER), call.blocks(BY_SDPA)
    native += tuple(block for block in call.blocks(EXPLICIT) if prepares_masks(case, call.release, block))
    viewing += () if at_first else left_by_later_layers(call, native)
    viewing = tuple(block for block in viewing if not drops_the_mask(case, call.release, block))
    return (
        *(block for block in native if _views_nothing(case, block, False)),
        *(block for block in viewing if case.samples * case.num_heads != 1 and _views_nothing(case, block, True)),
    )


def left_by_later_layers(call: Call, native: Iterable[str]) -> tuple[str, ...]:
    """The blocks among `native`, on a fast path, that only the first layer computes there.

    If a mask is learned, the first layer's output requires a gradient, and later layers leave the fast path for
    scaled_dot_product_attention, before 2.0 for the explicit path.
    """
    mode = BY_ID[call.case.mode]
    is_seen = call.case.autograd == "mask" and not (mode.is_forward or mode.family == "vmap")
    if call.case.num_layers == 1 or not is_seen or memory_is_too_short(call):
        return ()
    return tuple(block for block in native if _sees_a_gradient(call, block))


def _sees_a_gradient(call, block):
    """True if a learned mask in the first layer keeps this block of later layers off the fast path."""
    learned = [name for name, mask in masks_of(call.case).items() if mask.is_float]
    if is_nested(call):  # the packed batch reads its mask as bool
        learned = [name for name in learned if not name.startswith("src")]
    if since(call.release, "2.12") and block not in call.blocks(NATIVE_LAYER):  # empty results require no gradient
        learned = [name for name in learned if _has_effect(call.case, name)]
    return any(name.startswith("src") or block == "tgt" for name in learned)


def _has_effect(case, name):
    """True if the mask is added to at least one score."""
    return mask_arrays(case)[name].size > 0 and (name.startswith("src") or case.T > 0)


def _views_nothing(case, block, views_padding):
    attn_mask, padding = (masks_of(case).get(name) for name in case.mask_names(block))
    has_nothing = case.N == 0 or case.number_of_keys(block) + case.appended_keys == 0
    return has_nothing and bool((attn_mask and attn_mask.per_head) or (padding and views_padding))


def keyless_blocks(call: Call) -> tuple[str, ...]:
    """The blocks of scaled_dot_product_attention that have no key."""
    case = call.case
    return tuple(block for block in call.blocks(BY_SDPA) if case.number_of_keys(block) + case.appended_keys == 0)


def spread_through_the_sum(computation: Computation, call: Call) -> Computation:
    """The computation with NaN everywhere if the sum of the queries is not finite."""
    limit = PRECISIONS[call.case.dtype].max
    return with_kernel(computation, lambda kernel: SummingTheQuery(kernel, limit), keyless_blocks(call))


def has_no_features(call: Call) -> bool:
    """True if scaled_dot_product_attention gets a query without features, and no other size is 0."""
    case = call.case
    return not case.has_parameters and case.D == 0 and 0 not in (*case.batch, case.L, case.S, case.Dv)


def attend_to_nothing(computation: Computation, call: Call) -> Computation:
    """The computation that takes queries without features for an empty output."""
    kernel = AttendingToNothing(PRECISIONS[call.case.dtype].max)
    return with_kernel(computation, lambda _: kernel, ("sdpa",))


def loses_empty_weights(call: Call) -> bool:
    """True if nn.MultiheadAttention is asked for the weights of an empty batch on its fast path."""
    case = call.case
    return case.need_weights and case.N * case.L == 0 and bool(call.blocks(NATIVE_MHA))


def has_no_heads(call: Call) -> bool:
    """True if the fused kernel gets queries and keys, but no heads."""
    case = call.case
    return case.batch[-1:] == (0,) and case.L * case.S > 0 and bool(call.flash_blocks())


ENTRIES = (
    Deviation(
        id="empty-mask-view",
        title="A mask raises if there is no sample or no key",
        affects=">=2.0",
        upstream="not found",
        clause=1,
        trigger="N = 0 or S = 0: on a fast path with a mask per head; off the fast paths with a mask per head or a"
        " padding mask, if no weights are asked for",
        instead="RuntimeError: the size of a mask without elements cannot be inferred",
        applies=lambda call: bool(views_nothing(call)),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape"
        ),
        pinned=MultiHead(N=0, key_padding_mask=Mask("bool", "none"), need_weights=False),
        devices=ON_BOTH,
        stage="attention",
        remedies=(NO_EMPTY_MASK,),
    ),
    Deviation(
        id="native-mha-empty-weights",
        title="nn.MultiheadAttention returns no weights for an empty batch in eval mode",
        affects=">=1.13",
        upstream="pytorch/pytorch#192651",
        clause=7,
        trigger="N = 0 or L = 0, with need_weights=True, on the fast path of self-attention",
        instead="None in place of the weights",
        applies=loses_empty_weights,
        change=lambda computation, call: without_weights(computation),
        pinned=MultiHead(N=0, num_heads=2, attention="self"),
        devices=ON_BOTH,
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="sdpa-no-keys-nan-spreads",
        title="Without keys, one NaN in a query makes all outputs of the batch NaN",
        affects=">=2.12",
        upstream="not found",
        clause=4,
        trigger="scaled_dot_product_attention without keys, if the sum of the query's numbers is not finite: one is"
        " NaN or infinite, or the sum overflows, as it soon does in float16",
        instead="the whole output is NaN, also for other queries, heads and samples (before 2.12 it was 0): the"
        " shortcut for empty inputs adds 0 times the sum",
        applies=lambda call: bool(keyless_blocks(call)),
        change=spread_through_the_sum,
        pinned=ScaledDotProduct(S=0, nan_query=True),
        remedies=(Remedy("Give query.nan_to_num() as the query.", changed(nan_query=False)),),
    ),
    Deviation(
        id="sdpa-no-features-zero",
        title="scaled_dot_product_attention returns zeros if queries have no features",
        affects=">=2.12,<2.13",
        upstream="pytorch/pytorch#184330",
        clause=1,
        trigger="query and key of shape (..., 0), with values that have features",
        instead="the output and all gradients are 0, or the output is NaN throughout if a value is not finite. Every"
        " score is 0, so that the mean of the visible values is due:"
        " the shortcut for empty inputs takes an empty query for an empty output",
        applies=has_no_features,
        change=attend_to_nothing,
        pinned=ScaledDotProduct(D=0, scale=1.0),
        remedies=(upgrade("2.13"),),
    ),
    Deviation(
        id="flash-no-heads",
        title="scaled_dot_product_attention crashes if there are no heads",
        affects=DIVIDE_BY_HEADS,
        upstream="pytorch/pytorch#141218",
        clause=1,
        trigger="tensors of four dimensions without heads, (N, 0, L, E), on the CPU's fused kernel, with or without a"
        " mask",
        instead="the process ends with SIGFPE: the kernel divides an integer by the number of heads",
        applies=has_no_heads,
        change=lambda computation, call: raising(computation, "Died", "the process that makes the call has ended"),
        pinned=ScaledDotProduct(batch=(1, 0)),
        ends=True,
        stage="attention",
        remedies=(upgrade("2.12"),),
    ),
)
