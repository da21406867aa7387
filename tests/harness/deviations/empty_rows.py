"""Fully masked queries: rows of NaN, but 0 in the specification (clause 4)."""

from collections.abc import Callable

from ..cases.case import UNRECORDED, MultiHead, ScaledDotProduct
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.arithmetic import Arithmetic, multiplying
from ..expectation.changes import with_kernel
from ..expectation.specification import Computation
from ..path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA
from .call import Call
from .entry import Change, Deviation
from .facts import causal_flash_blocks, has_empty_row
from .remedies import (
    FIRST_KEY,
    GLOBAL,
    NO_FAST_PATH,
    Condition,
    Remedy,
    changed,
    off_the_fast_path,
    on_native_paths,
    upgrade,
)


def sees_nothing_on(*paths: str) -> Callable[[Call], bool]:
    """A trigger: true if a block on one of these paths has a fully masked query."""

    def applies(call: Call) -> bool:
        return any(has_empty_row(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def computes_plainly_on(*paths: str) -> Change:
    """A change: blocks on these paths give NaN for fully masked queries, and wherever it spreads.

    It does not spread from keys that a causal kernel never computes.
    """

    def change(computation: Computation, call: Call) -> Computation:
        blocks = sum((call.blocks(path) for path in paths), ())
        computation = with_kernel(computation, lambda _: multiplying, blocks)
        skipping = causal_flash_blocks(call) if BY_SDPA in paths else ()
        kernel = Arithmetic(fills=True, skips=True)
        return with_kernel(computation, lambda _: kernel, skipping) if skipping else computation

    return change


NO_WEIGHTS = Condition("no weights are asked for", lambda case: not case.need_weights)

NOT_NATIVE = Condition(
    "query, key and value are different tensors, or the module is in training mode, or autograd records a parameter",
    lambda case: case.attention != "self" or case.training or case.autograd not in UNRECORDED,
)

ENTRIES = (
    Deviation(
        id="empty-row-nan-explicit",
        title="A fully masked query gives NaN if weights are computed explicitly",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, and the call returns weights (or the release is 1.13)",
        instead="the row's weights and output are NaN",
        applies=sees_nothing_on(EXPLICIT),
        change=computes_plainly_on(EXPLICIT),
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
                f"{NO_FAST_PATH}, and call with need_weights=False.",
                changed(need_weights=False, fast_path=False),
                ">=2.5",
                cost=f"no weights are returned; {GLOBAL}",
            ),
            FIRST_KEY,
        ),
    ),
    Deviation(
        id="empty-row-nan-native",
        title="A fully masked query gives NaN on the fast paths",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, in eval mode without autograd, on a fast path",
        instead="the row's output is NaN, and so is all that later layers compute from it",
        applies=sees_nothing_on(NATIVE_MHA, NATIVE_LAYER),
        change=computes_plainly_on(NATIVE_MHA, NATIVE_LAYER),
        pinned=MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("bool", "all"), need_weights=False),
        devices=ON_BOTH,
        remedies=(
            *off_the_fast_path(">=2.5", (NO_WEIGHTS,)),
            on_native_paths(FIRST_KEY),
        ),
    ),
    Deviation(
        id="empty-row-nan-sdpa",
        title="A fully masked query gives NaN in scaled_dot_product_attention",
        affects=">=2.0,<2.5",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the mask hides every key",
        instead="the row's output is NaN",
        applies=sees_nothing_on(BY_SDPA),
        change=computes_plainly_on(BY_SDPA),
        pinned=ScaledDotProduct(attn_mask=Mask("bool", "all")),
        remedies=(upgrade("2.5"), FIRST_KEY),
    ),
)
