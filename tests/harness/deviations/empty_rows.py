"""Fully masked queries: rows of NaN where the specification says 0 (clause 4)."""

from ..cases.case import MultiHead, ScaledDotProduct
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.arithmetic import multiplying
from ..expectation.changes import with_kernel
from .entry import Deviation
from .facts import has_empty_row
from .remedies import (
    _GLOBAL,
    _NO_FAST_PATH,
    FIRST_KEY,
    NO_WEIGHTS,
    NOT_NATIVE,
    Remedy,
    changed,
    off_the_fast_path,
    on_native_paths,
    upgrade,
)


def sees_nothing_on(*paths):
    """True if a block on one of these paths has a query that sees no key."""

    def applies(call):
        return any(has_empty_row(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def computes_plainly_on(*paths):
    """NaN where a query sees no key, and wherever that spreads to."""

    def change(computation, call):
        blocks = sum((call.blocks(path) for path in paths), ())
        return with_kernel(computation, lambda _: multiplying, blocks)

    return change


ENTRIES = (
    Deviation(
        id="empty-row-nan-explicit",
        title="A query that sees no key gives NaN where weights are computed explicitly",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, and the call returns weights (or the release is 1.13)",
        instead="the row's weights and output are NaN",
        applies=sees_nothing_on("explicit"),
        change=computes_plainly_on("explicit"),
        pinned=MultiHead(attn_mask=Mask("bool", "all")),
        devices=ON_BOTH,
        remedies=(
            Remedy(
                "Call with need_weights=False.",
                changed(need_weights=False),
                ">=2.5",
                (NOT_NATIVE,),
                "no weights are returned",
            ),
            Remedy(
                f"{_NO_FAST_PATH}, and call with need_weights=False.",
                changed(need_weights=False, fast_path=False),
                ">=2.5",
                cost=f"no weights are returned; {_GLOBAL}",
            ),
            FIRST_KEY,
        ),
    ),
    Deviation(
        id="empty-row-nan-native",
        title="A query that sees no key gives NaN on the native paths",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, in eval without autograd, where the native path serves the call",
        instead="the row's output is NaN, and through it all that later layers compute from it",
        applies=sees_nothing_on("native_mha", "native_layer"),
        change=computes_plainly_on("native_mha", "native_layer"),
        pinned=MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("bool", "all"), need_weights=False),
        devices=ON_BOTH,
        remedies=(
            *off_the_fast_path(">=2.5", (NO_WEIGHTS,)),
            on_native_paths(FIRST_KEY),
        ),
    ),
    Deviation(
        id="empty-row-nan-sdpa",
        title="A query that sees no key gives NaN in scaled_dot_product_attention",
        affects=">=2.0,<2.5",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the mask hides every key",
        instead="the row's output is NaN",
        applies=sees_nothing_on("sdpa"),
        change=computes_plainly_on("sdpa"),
        pinned=ScaledDotProduct(attn_mask=Mask("bool", "all")),
        remedies=(upgrade("2.5"), FIRST_KEY),
    ),
)
