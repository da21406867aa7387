"""NaN and inf in hidden positions, which clause 5 leaves open: what each path makes of them."""

from ..cases.case import MultiHead, ScaledDotProduct, attentions
from ..cases.masks import Mask
from ..contents.arrays import nonfinite_positions
from ..expectation.arithmetic import Arithmetic
from ..expectation.changes import with_arithmetic
from ..releases import since
from .entry import Deviation
from .facts import drops_the_mask, mask_names
from .remedies import FILLED


def hides_nonfinite_on(*paths):
    """True if a block on one of these paths has a key that no query may see, and that is not finite."""

    def applies(call):
        return any(_holds_nonfinite(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def _holds_nonfinite(case, block):
    if isinstance(case, ScaledDotProduct):
        return bool(nonfinite_positions(case))
    sources = {attn_mask: key_input for attn_mask, _, key_input in attentions(case)}
    return sources[mask_names(case, block)[0]] in nonfinite_positions(case)


def add_to_nonfinite(computation, call):
    """Where weights are computed explicitly, -inf is added to the scores of hidden keys."""
    return with_arithmetic(computation, Arithmetic(), call.blocks("explicit"))


def fill_nonfinite(computation, call):
    """On the native paths scores of hidden keys are -inf, whatever they were."""
    return with_arithmetic(computation, Arithmetic(fills=True), call.blocks("native_mha") + call.blocks("native_layer"))


def multiply_nonfinite(computation, call):
    """scaled_dot_product_attention adds -inf, but its fused kernel fills in what is_causal=True hides."""
    is_safe = since(call.release, "2.5")
    filling = tuple(block for block in call.flash_blocks() if _is_hidden_by_causality(call, block))
    adding = tuple(block for block in call.blocks("sdpa") if block not in filling)
    computation = with_arithmetic(computation, Arithmetic(is_safe=is_safe), adding)
    return with_arithmetic(computation, Arithmetic(fills=True, is_safe=is_safe, skips=True), filling)


def _is_hidden_by_causality(call, block):
    case = call.case
    return case.is_causal if isinstance(case, ScaledDotProduct) else drops_the_mask(case, call.release, block)


ENTRIES = (
    Deviation(
        id="hidden-nan-explicit",
        title="NaN in a hidden position makes every query NaN where weights are computed explicitly",
        affects=">=1.13",
        upstream="pytorch/pytorch#57721",
        clause=5,
        trigger="a key that every query is told to ignore holds NaN or inf, and the call returns weights (or the"
        " release is 1.13)",
        instead="its score is NaN, and -inf added to that is NaN: weights and outputs of its sample are NaN",
        applies=hides_nonfinite_on("explicit"),
        change=add_to_nonfinite,
        pinned=MultiHead(S=2, nonfinite="nan", key_padding_mask=Mask("bool", "one")),
        remedies=(FILLED,),
    ),
    Deviation(
        id="hidden-nan-native",
        title="NaN in a hidden position makes every query NaN on the native paths",
        affects=">=1.13",
        upstream="pytorch/pytorch#57721",
        clause=5,
        trigger="a key that every query is told to ignore holds NaN or inf, in eval without autograd, where the native"
        " path serves the call; not where nn.TransformerEncoder packs the batch, which leaves the position out",
        instead="the weights are right, but 0 * NaN is NaN: the outputs of its sample are NaN",
        applies=hides_nonfinite_on("native_mha", "native_layer"),
        change=fill_nonfinite,
        pinned=MultiHead(
            L=2, S=2, num_heads=2, attention="self", nonfinite="nan", key_padding_mask=Mask("bool", "one")
        ),
        remedies=(FILLED,),
    ),
    Deviation(
        id="hidden-nan-sdpa",
        title="NaN in a hidden position makes every query NaN in scaled_dot_product_attention",
        affects=">=2.0",
        upstream="pytorch/pytorch#101967",
        clause=5,
        trigger="a key or value that every query is told to ignore holds NaN or inf; since 2.1 under is_causal=True, on"
        " the CPU's fused kernel, a value alone, among the keys that it computes (in blocks of 512)",
        instead="a score of NaN stays NaN when -inf is added, and 0 * NaN is NaN: the outputs are NaN",
        applies=hides_nonfinite_on("sdpa"),
        change=multiply_nonfinite,
        pinned=ScaledDotProduct(S=2, nonfinite="nan", attn_mask=Mask("bool", "column")),
        remedies=(FILLED,),
    ),
)
