"""Causal masks that is_causal replaces: hints, detected causality, traces, torch.nn.attention.bias."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from reference import masks as meaning

from ..cases.case import MultiHead, ScaledDotProduct, Transformer
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning, with_kernel, without_gradient
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..path_names import BY_SDPA, NATIVE_MHA
from .call import Call
from .entry import Deviation
from .facts import drops_the_mask, is_exactly_causal, needs_mask_gradient
from .remedies import FIRST_KEY, OTHER_NUMBERS, SLOWER, Condition, Remedy, changed, upgrade, without


@dataclass(frozen=True)
class TakingForCausal:
    """A kernel that applies a causal mask over all keys, appended ones included, in place of the mask of the call."""

    kernel: Callable  # computes the attention with that mask

    def __call__(self, query, key, value, bias, scale):
        hidden = meaning.causal(query.shape[-2], key.shape[-2])
        return self.kernel(query, key, value, meaning.as_bias(hidden, bias.real.dtype), scale)


def is_biased_past_its_keys(call: Call) -> bool:
    """True if causal_lower_right is made for more queries than keys."""
    case = call.case
    return case.mode == "causal_lower_right" and case.L > case.S


def dropped_masks(call: Call) -> tuple[str, ...]:
    """The names of the float masks that get no gradient, since is_causal replaces them."""
    blocks = [block for block in call.blocks(BY_SDPA) if needs_mask_gradient(call.case, block)]
    dropped = [block for block in blocks if drops_the_mask(call.case, call.release, block)]
    return tuple(call.case.mask_names(block)[0] for block in dropped)


def blocks_taken_for_causal(call: Call) -> tuple[str, ...]:
    """The blocks whose mask is_causal replaces, since the trace was made with a causal mask."""
    case = call.case
    if BY_ID[case.mode].family != "traced" or not case.has_layers:
        return ()
    dropped = [block for block in call.blocks(BY_SDPA) if drops_the_mask(case, call.release, block)]
    masks = {block: mask_arrays(case)[case.mask_names(block)[0]] for block in dropped}
    return tuple(block for block, mask in masks.items() if mask.ndim == 2 and not is_exactly_causal(mask))


def take_for_causal(computation: Computation, call: Call) -> Computation:
    """The computation with causal masks in the blocks that the trace takes for causal."""
    return with_kernel(computation, TakingForCausal, blocks_taken_for_causal(call))


def gives_mask_and_hint(call: Call) -> bool:
    """True if a multi-head attention off its fast path gets a mask and a hint about it."""
    case = call.case
    return case.is_causal and not case.asks_for_causal_mask and not call.blocks(NATIVE_MHA)


def hides_appended_keys(call: Call) -> bool:
    """True if a causal hint replaces a mask of an attention with appended keys."""
    case, blocks = call.case, call.blocks(BY_SDPA)
    return case.appended_keys > 0 and any(drops_the_mask(case, call.release, block) for block in blocks)


HAS_HINTS = Condition("the module is not nn.Transformer", lambda case: case.module != "Transformer")


def _without_hints(case):
    return replace(case, **{case.hint(source): False for source in case.sources if source != "memory"})


def _beside_zeros(case):
    zeros = Mask("float", "none")
    names = [case.mask_names(source)[1] for source in case.sources if source != "memory"]
    return replace(case, **{name: getattr(case, name) or zeros for name in names})


ENTRIES = (
    Deviation(
        id="causal-mask-gradient",
        title="A causal float mask gets no gradient",
        affects=">=2.0.1",
        upstream="not found",
        clause=6,
        trigger="a causal float mask requires a gradient, and a hint says that it is causal or a stack detects it",
        instead="is_causal=True replaces the mask, so that the mask's gradient is None",
        applies=lambda call: bool(dropped_masks(call)),
        change=lambda computation, call: without_gradient(computation, dropped_masks(call)),
        pinned=Transformer(
            module="TransformerEncoder", autograd="grad", S=2, head_dim=4, src_mask=Mask("float", "causal")
        ),
        devices=ON_BOTH,
        remedies=(
            Remedy("Pass is_causal=False, or to a decoder tgt_is_causal=False.", _without_hints, only=(HAS_HINTS,)),
            Remedy(
                "Pass a float padding mask of zeros, too.",
                _beside_zeros,
                cost=SLOWER,
            ),
        ),
    ),
    Deviation(
        id="traced-causal-mask",
        title="A stack that was traced with a causal mask takes every mask for causal",
        affects=">=2.0.1",
        upstream="not found",
        clause=3,
        trigger="a torch.jit.trace of nn.TransformerEncoder, from 2.1 on also of a stack with a decoder, that was made"
        " with a causal mask and no hint; it is called with another mask of that shape, without padding, off the fast"
        " path",
        instead="the mask is ignored, and a causal mask is applied",
        applies=lambda call: bool(blocks_taken_for_causal(call)),
        change=take_for_causal,
        pinned=Transformer(
            mode="traced_causal",
            module="TransformerEncoder",
            training=True,
            S=2,
            head_dim=2,
            src_mask=Mask("bool", "none"),
        ),
        remedies=(
            Remedy("Pass is_causal=False, or to a decoder tgt_is_causal=False.", _without_hints, only=(HAS_HINTS,)),
            without("torch.jit.trace", cost="no trace"),
        ),
    ),
    Deviation(
        id="causal-hint-hides-appended-keys",
        title="is_causal=True hides the keys that add_bias_kv and add_zero_attn append",
        affects=">=2.0.1",
        upstream="not found",
        clause=7,
        trigger="nn.MultiheadAttention with is_causal=True, need_weights=False, no padding mask, and appended keys",
        instead="the causal mask covers all keys, so that the appended ones are hidden from early queries",
        applies=hides_appended_keys,
        change=lambda computation, call: with_kernel(computation, TakingForCausal, ("self",)),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True, need_weights=False, add_zero_attn=True),
        devices=ON_BOTH,
        remedies=(Remedy("Leave out the hint.", changed(is_causal=False)),),
    ),
    Deviation(
        id="hint-excludes-mask",
        title="nn.MultiheadAttention refuses a mask given with is_causal=True",
        affects="==2.0.0",
        upstream="not found",
        clause=6,
        trigger="is_causal=True given with the attn_mask that it is a hint about, off the fast path",
        instead="AssertionError: only one of the two is allowed",
        applies=gives_mask_and_hint,
        change=lambda computation, call: raising(computation, "AssertionError", "Only allow causal mask or attn_mask"),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True),
        stage="attention",
        remedies=(Remedy("Leave out the hint.", changed(is_causal=False)), upgrade("2.0.1")),
    ),
    Deviation(
        id="lower-right-bias-warning",
        title="causal_lower_right warns of NaN for fully masked queries, whose output is 0 since 2.5",
        affects=">=2.3",
        upstream="not found",
        clause=10,
        trigger="causal_lower_right(L, S) with more queries than keys",
        instead="UserWarning: Lower right causal bias will produce NaNs; before 2.5 it does, since 2.5 it does not",
        applies=is_biased_past_its_keys,
        change=lambda computation, call: warning(computation, "Lower right causal bias will produce NaNs"),
        pinned=ScaledDotProduct(mode="causal_lower_right", L=2, attn_mask=Mask("bool", "lower_right")),
        devices=ON_BOTH,
        remedies=(
            Remedy("Ignore the warning by warnings.filterwarnings.", changed(mode="silenced_lower_right"), ">=2.5"),
            Remedy("Give the mask itself as attn_mask.", changed(mode="eager"), ">=2.5", cost="memory for the mask"),
            Remedy(
                "Give the mask itself as attn_mask, and let every query see the first key.",
                lambda case: replace(FIRST_KEY.change(case), mode="eager"),
                "<2.5",
                cost=f"memory for the mask; {OTHER_NUMBERS}",
            ),
        ),
    ),
)
