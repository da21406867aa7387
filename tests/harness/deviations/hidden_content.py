"""NaN and inf in hidden positions, which clause 5 leaves open: the result on each path."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from reference import masks as meaning

from ..cases.case import MultiHead, ScaledDotProduct, Transformer, source_of
from ..cases.masks import NAN, Mask
from ..contents.arrays import nonfinite_positions
from ..expectation.arithmetic import Arithmetic
from ..expectation.changes import with_arithmetic
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA
from ..releases import since
from .call import Call
from .entry import Deviation
from .facts import bias_of, causal_flash_blocks
from .remedies import EVERY_QUERY_SEES_A_KEY, OTHER_NUMBERS, Remedy, changed, on_native_paths, with_masks


def hides_nonfinite_on(*paths: str) -> Callable[[Call], bool]:
    """A trigger: true if a block on one of these paths has a key that is hidden from all queries and not finite."""

    def applies(call: Call) -> bool:
        return any(_holds_nonfinite(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def _holds_nonfinite(case, block):
    if not case.attentions:
        return bool(nonfinite_positions(case))
    sources = {attention.attn_mask: attention.keys for attention in case.attentions}
    return sources[case.mask_names(block)[0]] in nonfinite_positions(case)


def _hides_spoilt_keys(call):
    """True if NaN in the mask of a layer makes keys NaN that a later attention hides from one of its queries."""
    case = call.case
    if not case.has_layers:
        return False
    lengths = {"src": case.S, "tgt": case.T}
    spoilt = {name: np.zeros((1, length), bool) for name, length in lengths.items()}  # (1 or N, length)
    for block in case.order:
        keys, queries = _sequences_of(block)
        bias = bias_of(case, block)
        if bias is None:
            bias = np.zeros((1, 1, lengths[queries], lengths[keys]))
        hidden, is_spoilt = meaning.hidden(bias), spoilt[keys][:, None, None]
        if (hidden & is_spoilt).any():
            return True
        spoilt[queries] = spoilt[queries] | (np.isnan(bias) | (is_spoilt & ~hidden)).any(axis=(1, -1))
    return False


def _sequences_of(block):
    """The sequence that a block attends to, and the one that attends."""
    source = source_of(block)
    return ("src", "tgt") if source == "memory" else (source, source)


def compute_plainly(computation: Computation, call: Call) -> Computation:
    """Each attention spreads NaN as the arithmetic of its path does."""
    for change in (add_to_nonfinite, fill_nonfinite, multiply_nonfinite):
        computation = change(computation, call)
    return computation


def add_to_nonfinite(computation: Computation, call: Call) -> Computation:
    """The explicit path adds -inf to the scores of hidden keys, and leaves NaN as it is."""
    return with_arithmetic(computation, Arithmetic(), call.blocks(EXPLICIT))


def fill_nonfinite(computation: Computation, call: Call) -> Computation:
    """The fast paths replace the scores of hidden keys by -inf, NaN included."""
    return with_arithmetic(computation, Arithmetic(fills=True), call.blocks(NATIVE_MHA) + call.blocks(NATIVE_LAYER))


def multiply_nonfinite(computation: Computation, call: Call) -> Computation:
    """scaled_dot_product_attention adds -inf to the scores of hidden keys.

    Its fused kernel replaces the scores that is_causal=True hides. A forward-mode derivative multiplies the weight 0 of
    a hidden key by the tangent of its score, which may be inf although the result is a number.
    """
    is_safe = since(call.release, "2.5")
    filling = causal_flash_blocks(call)
    adding = tuple(block for block in call.blocks(BY_SDPA) if block not in filling)
    computation = with_arithmetic(computation, Arithmetic(is_safe=is_safe), adding)
    computation = with_arithmetic(computation, Arithmetic(fills=True, is_safe=is_safe, skips=True), filling)
    is_tangent_open = BY_ID[call.case.mode].is_forward and call.case.nonfinite == "inf"
    return replace(computation, may_be_nan=True) if is_tangent_open else computation


ZERO_FOR_NAN = Remedy(
    "Mask with torch.nan_to_num(mask), which puts 0 in the place of NaN.",
    with_masks(lambda mask: replace(mask, pattern="none") if mask.values == NAN else mask),
    only=(EVERY_QUERY_SEES_A_KEY,),
    cost=OTHER_NUMBERS,
)
FILLED = Remedy("Fill hidden positions with numbers, such as 0, before the call.", changed(nonfinite=""))

ENTRIES = (
    Deviation(
        id="hidden-nan-explicit",
        title="NaN in a hidden position makes every query NaN if weights are computed explicitly",
        affects=">=1.13",
        upstream="pytorch/pytorch#57721",
        clause=5,
        trigger="a key that is hidden from every query holds NaN or inf, and the call returns weights (or the release"
        " is 1.13)",
        instead="the key's score is NaN, and stays NaN if -inf is added: weights and outputs of its sample are NaN",
        applies=hides_nonfinite_on(EXPLICIT),
        change=add_to_nonfinite,
        pinned=MultiHead(S=2, nonfinite="nan", key_padding_mask=Mask("bool", "one")),
        remedies=(FILLED,),
    ),
    Deviation(
        id="hidden-nan-native",
        title="NaN in a hidden position makes every query NaN on the fast paths",
        affects=">=1.13",
        upstream="pytorch/pytorch#57721",
        clause=5,
        trigger="a key that is hidden from every query holds NaN or inf, in eval mode without autograd, on a fast"
        " path; not if nn.TransformerEncoder packs the batch, which leaves the position out",
        instead="the weights are right, but 0 * NaN is NaN: the outputs of the key's sample are NaN",
        applies=hides_nonfinite_on(NATIVE_MHA, NATIVE_LAYER),
        change=fill_nonfinite,
        pinned=MultiHead(
            L=2, S=2, num_heads=2, attention="self", nonfinite="nan", key_padding_mask=Mask("bool", "one")
        ),
        remedies=(on_native_paths(FILLED),),
    ),
    Deviation(
        id="hidden-nan-sdpa",
        title="NaN in a hidden position makes every query NaN in scaled_dot_product_attention",
        affects=">=2.0",
        upstream="pytorch/pytorch#101967",
        clause=5,
        trigger="a key or value that is hidden from every query holds NaN or inf; since 2.1 under is_causal=True, on"
        " the CPU's fused kernel, only a value, and only among the keys that the kernel computes (in blocks of 512)",
        instead="a score of NaN stays NaN if -inf is added, and 0 * NaN is NaN: the outputs are NaN",
        applies=hides_nonfinite_on(BY_SDPA),
        change=multiply_nonfinite,
        pinned=ScaledDotProduct(S=2, nonfinite="nan", attn_mask=Mask("bool", "column")),
        remedies=(FILLED,),
    ),
    Deviation(
        id="nan-mask-spreads",
        title="NaN in a mask of one layer spreads to queries from which the next layer hides it",
        affects=">=1.13",
        upstream="not found",
        clause=5,
        trigger="a float mask that holds NaN makes positions NaN that a later attention of the stack, or of"
        " nn.Transformer, hides",
        instead="a score of NaN stays NaN if -inf is added, and 0 * NaN is NaN: the outputs are NaN",
        applies=_hides_spoilt_keys,
        change=compute_plainly,
        pinned=Transformer(
            module="TransformerDecoder",
            seed=2,
            T=2,
            head_dim=4,
            num_layers=2,
            training=True,
            tgt_mask=Mask("float", "one", NAN),
            tgt_key_padding_mask=Mask("bool", "one"),
        ),
        remedies=(ZERO_FOR_NAN,),
    ),
)
