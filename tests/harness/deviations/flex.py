"""torch.nn.attention.flex_attention on CPU."""

from dataclasses import replace

import numpy as np

from reference.derivative import complex_of
from reference.flex import attend_by_scores, create_block_mask

from ..cases.case import Case, FlexAttention
from ..cases.masks import Mask
from ..contents.arrays import biases, directions, mask_arrays, nonfinite_positions
from ..contents.blocks import block_mask
from ..expectation.changes import raising
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.modes import BY_ID
from ..releases import since
from .call import Call
from .entry import Deviation
from .flex_block_masks import BY_BLOCKS_OF_MASK_MOD, CREATED
from .hidden_content import FILLED
from .remedies import Remedy, changed


def is_compiled(call: Call) -> bool:
    """True if inductor compiles the call; otherwise it is computed from all scores."""
    return BY_ID[call.case.mode].builds


def learns_inputs(case: Case) -> bool:
    """True if query, key or value requires a gradient."""
    return not directions(case).keys().isdisjoint(("query", "key", "value"))


def learns_captured(case: Case) -> bool:
    """True if the mask that score_mod adds requires a gradient."""
    return "added_mask" in directions(case)


# ---- masks ---------------------------------------------------------------------------------------------------------


def lacks_mask_mod(call: Call) -> bool:
    """True if the BlockMask is a slice that is given no mask_mod: it then hides nothing, and raises since 2.10."""
    return call.case.is_flex and call.case.blocks_by == "slice_without_mask_mod" and call.case.slices_samples


def _without_mask_mod(computation: Computation, call: Call) -> Computation:
    sliced = replace(computation.arguments["block_mask"], mask_mod=None)
    reads_blocks = is_compiled(call) and since(call.release, _COMPILED_BLOCKS)
    return replace(computation, arguments={**computation.arguments, "block_mask": sliced if reads_blocks else None})


_COMPILED_BLOCKS = "2.8"  # from this release on, the compiled kernel of the CPU reads the lists of blocks


def _hides_by_blocks(call):
    case = call.case
    if not case.is_flex or case.kept_mask is None or not case.has_lists:
        return False
    if is_compiled(call) and since(call.release, _COMPILED_BLOCKS):
        return False
    kept = mask_arrays(case)["kept_mask"]
    return not np.array_equal(block_mask(case, kept).visible(case.L, case.S), kept)


def _by_mask_mod_alone(computation: Computation, call: Call) -> Computation:
    mask = create_block_mask(mask_arrays(call.case)["kept_mask"])
    return replace(computation, arguments={**computation.arguments, "block_mask": mask})


def _hides_nonfinite(call):
    return call.case.is_flex and bool(nonfinite_positions(call.case))


def _multiplying(computation: Computation, call: Call) -> Computation:
    """The computation with torch's arithmetic: 0 * NaN is NaN, and so is NaN + -inf if score_mod adds it."""
    score_mod = computation.arguments["score_mod"]
    is_added = call.case.added_mask is not None and call.case.added_mask.is_float

    def kernel(scores, value, hidden):
        block_mask = computation.arguments["block_mask"]
        is_kept = True if block_mask is None else block_mask.visible(*scores.shape[-2:])
        adds = np.broadcast_to(score_mod.hidden & is_kept if is_added else False, scores.shape)
        scores = np.where(adds, scores - np.inf, np.where(hidden, -np.inf, scores))
        highest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        is_empty = np.isneginf(highest)
        powers = np.exp(scores - np.where(is_empty, 0, highest))
        total = powers.sum(axis=-1, keepdims=True)
        logarithm = np.where(np.isinf(highest), highest, np.log(total) + highest)
        return np.where(is_empty, 0, powers / total) @ value, logarithm[..., 0]

    return replace(computation, arguments={**computation.arguments, "kernel": kernel})


_LN_2 = float(np.log(2))


def _scores_are_large(call):
    """True if a derivative is taken, and every visible score of some query is so large that its digits are lost."""
    case = call.case
    return case.is_flex and bool(directions(case)) and not is_compiled(call) and bool(_large_rows(call).any())


def _large_rows(call):
    """bool (B, H, L, 1): True for queries whose largest mask value has no digits for a score beside it."""
    top = _tops(call)
    return np.isfinite(top) & (np.abs(top) > 0.1 / np.finfo(_working(call.case)).eps)


def _tops(call):
    """float64 (B, H, L, 1): the largest number that score_mod adds to a visible score of a query."""
    case = call.case
    zero = np.zeros((1, 1, case.L, case.S))
    seen = replace(case, blocks_by="create_block_mask") if case.has_lists else case  # lists are ignored
    seen = replace(seen, kept_mask=None) if lacks_mask_mod(call) else seen
    return sum(map(np.float64, biases(seen)), zero).max(axis=-1, keepdims=True, initial=-np.inf)


def _working(case):
    return "float64" if case.dtype == "float64" else "float32"


def _recovering(computation: Computation, call: Call) -> Computation:
    """The computation whose derivative takes the weights from the log-sum-exp, which a change of its base rounds."""
    dtype = _working(call.case)
    is_finite = []

    def kernel(scores, value, hidden):
        output, logarithm = attend_by_scores(scores, value, hidden)
        if not (np.iscomplexobj(scores) or np.iscomplexobj(value)):
            return output, logarithm
        recovered = _recovered(np.where(hidden, -np.inf, scores.real).astype(dtype)).astype("float64")
        is_finite.append(np.isfinite(recovered).all())
        slopes = recovered * np.where(hidden, 0, scores.imag)
        total = slopes.sum(axis=-1, keepdims=True)
        slope = recovered @ value.imag + slopes @ value.real - total * output.real
        return complex_of(output.real, slope), complex_of(logarithm.real, total[..., 0])

    recovering = replace(computation, arguments={**computation.arguments, "kernel": kernel})
    recovering()
    return recovering if all(is_finite) else replace(recovering, undefined_gradient=left_out.STEEP)


def _recovered(scores):
    """exp(score - log-sum-exp), where the log-sum-exp was divided by ln 2 and multiplied with it; 0 in empty rows."""
    highest = scores.max(axis=-1, keepdims=True)
    is_empty = np.isneginf(highest)
    highest = np.where(is_empty, 0, highest)
    logarithm = np.log(np.exp(scores - highest).sum(axis=-1, keepdims=True)) + highest
    base = scores.dtype.type(_LN_2)
    with np.errstate(all="ignore"):
        recovered = (logarithm / base) * base
        return np.where(is_empty | np.isneginf(recovered), 0, np.exp(scores - recovered))


def _log_sum_exp_overflows(call):
    case = call.case
    if not case.is_flex or not case.lse or is_compiled(call):
        return False
    return bool((_large_rows(call) & (np.abs(_tops(call)) > _largest(case))).any())


def _largest(case):
    """The largest log-sum-exp that stays finite when it is divided by ln 2."""
    return float(np.finfo(_working(case)).max) * _LN_2


def _overflowing(computation: Computation, call: Call) -> Computation:
    """The computation whose large log-sum-exps are infinite."""

    def finish(name, array):
        real = np.where(np.abs(array.real) > _largest(call.case), np.copysign(np.inf, array.real), array.real)
        if name != "lse":
            return array
        return complex_of(real, array.imag) if np.iscomplexobj(array) else real

    return replace(computation, finish=finish)


# ---- empty calls ----------------------------------------------------------------------------------------------------


def _has_no_keys(call):
    """True if there are no keys; before 2.9, also a score_mod that divides the score, or joined functions."""
    case = call.case
    if not case.is_flex or case.S > 0:
        return False
    joins = bool(case.joined) and case.has_mask_mod
    return bool(case.softcap) or joins or since(call.release, "2.9")


def _has_no_log_sum_exp(call):
    return call.case.is_flex and bool(call.case.lse) and 0 in (*call.case.batch, call.case.L)


def _with_kept_mask(case):
    return replace(case, added_mask=None, kept_mask=replace(case.added_mask, form="bool", values="inf"))


_BY_MASK_MOD = Remedy(
    "Hide the keys by mask_mod.",
    _with_kept_mask,
    ">=2.6",  # create_block_mask of 2.5 asks mask_mod for positions behind the sequences
    only=(CREATED,),
)


def _differentiates_nothing(call):
    """True if the gradients of inputs without samples or keys are asked for."""
    case = call.case
    return case.is_flex and learns_inputs(case) and 0 in (*case.batch, case.S)


_NO_KEYS = "Expected reduction dim 3 to have non-zero size|index 0 out of range for tensor of size"
_ONE_KEY = Remedy(
    "Give one key, and hide it by mask_mod or score_mod.",
    lambda case: _with_hidden_key(case),
    ">=2.6",  # create_block_mask of 2.5 asks mask_mod for positions behind the sequences
)


def _with_hidden_key(case):
    return replace(case, S=1, kept_mask=Mask("bool", "all"), blocks_by="create_block_mask")


ENTRIES = (
    Deviation(
        id="flex-blocks-ignored",
        title="flex_attention ignores the blocks of a BlockMask, unless it is compiled since 2.8",
        affects=">=2.5",
        upstream="not found",
        clause=2,
        trigger="a BlockMask made of lists of blocks (BlockMask.from_kv_blocks) that hides a block that mask_mod keeps,"
        " or has a full block that mask_mod does not keep; without torch.compile, and on CPU before 2.8 with it, too",
        instead="mask_mod alone decides, silently; without a mask_mod, nothing is hidden",
        applies=_hides_by_blocks,
        change=_by_mask_mod_alone,
        pinned=FlexAttention(
            S=2, D=2, Dv=2, kept_mask=Mask("bool", "none"), block_size=(1, 1), blocks_by="lists", seed=6
        ),
        remedies=(BY_BLOCKS_OF_MASK_MOD,),
    ),
    Deviation(
        id="flex-slice-forgets-mask-mod",
        title="A slice of a BlockMask that is given no mask_mod hides nothing in flex_attention",
        affects=">=2.5,<2.10",
        upstream="pytorch/pytorch#163314",
        clause=2,
        trigger="a slice of a BlockMask, such as block_mask[1:], that is not given a mask_mod; since 2.10 it raises an"
        " error that says how to give one",
        instead="nothing is hidden, silently; on CPU since 2.8, with torch.compile, only whole blocks are hidden",
        applies=lambda call: lacks_mask_mod(call) and not since(call.release, "2.10"),
        change=_without_mask_mod,
        pinned=FlexAttention(
            D=2, Dv=2, kept_mask=Mask("bool", "all"), block_size=(1, 1), blocks_by="slice_without_mask_mod"
        ),
        remedies=(
            Remedy(
                "Give the slice a mask_mod that shifts the indices of the whole one.",
                changed(blocks_by="slice_of_samples"),
            ),
        ),
    ),
    Deviation(
        id="flex-hidden-nan",
        title="NaN in a hidden position makes queries NaN in flex_attention",
        affects=">=2.5",
        upstream="not found",
        clause=5,
        trigger="a key or value that is hidden from every query holds NaN or inf; a key only if score_mod adds -inf",
        instead="0 * NaN is NaN, and so is NaN + -inf: the outputs are NaN",
        applies=_hides_nonfinite,
        change=_multiplying,
        pinned=FlexAttention(
            S=2, D=2, Dv=2, kept_mask=Mask("bool", "last_column"), block_size=(1, 1), nonfinite="nan", seed=2
        ),
        remedies=(FILLED,),
    ),
    Deviation(
        id="flex-gradient-large-mask",
        title="Gradients of flex_attention are wrong beside masks of -1e9 or finfo.min",
        affects=">=2.5",
        upstream="not found",
        clause=1,
        trigger="every key that a query sees gets a number from score_mod beside which the score has no digits, such as"
        " -1e9 in float32 or finfo.min, and a gradient is taken: of any tensor, since 2.11 only of one that score_mod"
        " reads, as flex_attention refuses gradients of query, key and value on CPU",
        instead="the backward pass takes the weights from the rounded log-sum-exp: its weights are 1 in place of 1 / n,"
        " or 0, inf or NaN",
        applies=_scores_are_large,
        change=_recovering,
        pinned=FlexAttention(S=2, D=2, Dv=2, autograd="mask", added_mask=Mask("float", "all", "-1e30"), seed=1),
        remedies=(_BY_MASK_MOD,),
    ),
    Deviation(
        id="flex-log-sum-exp-overflow",
        title="The log-sum-exp of flex_attention is -inf beside masks of finfo.min",
        affects=">=2.5",
        upstream="not found",
        clause=1,
        trigger="every key that a query sees gets finfo.min from score_mod (in bfloat16, that of bfloat16 or float32)",
        instead="-inf, as of a fully masked query, since the log-sum-exp is divided by ln 2 and multiplied with it",
        applies=_log_sum_exp_overflows,
        change=_overflowing,
        pinned=FlexAttention(dtype="float32", D=2, Dv=2, added_mask=Mask("float", "all", "min"), lse="return_lse"),
        remedies=(_BY_MASK_MOD,),
    ),
    Deviation(
        id="flex-empty-backward",
        title="The backward pass of flex_attention raises if there are no samples or no keys",
        affects=">=2.5,<2.11",
        upstream="not found",
        clause=1,
        trigger="a gradient of query, key or value is taken, and there are no samples or no keys",
        instead="RuntimeError; before the backward pass, the output is right",
        applies=_differentiates_nothing,
        change=lambda computation, call: raising(computation, "RuntimeError", "cannot reshape tensor of 0 elements"),
        pinned=FlexAttention(batch=(0, 1), D=2, Dv=2, autograd="inputs"),
        no_remedy="none: leave empty batches out",
        stage="backward",
    ),
    Deviation(
        id="flex-empty-log-sum-exp",
        title="flex_attention returns None for the log-sum-exp of no queries",
        affects=">=2.9",
        upstream="not found",
        clause=1,
        trigger="the log-sum-exp is asked for, and there are no samples or no queries",
        instead="None in place of an empty tensor",
        applies=_has_no_log_sum_exp,
        change=lambda computation, call: replace(computation, lost=("lse",)),
        pinned=FlexAttention(L=0, lse="return_lse"),
        no_remedy="none: test for None",
        stage="call",
    ),
    Deviation(
        id="flex-no-keys",
        title="flex_attention raises if there are no keys",
        affects=">=2.5",
        upstream="not found",
        clause=4,
        trigger="the key has length 0; before 2.9, if score_mod adds to the score, or multiplies or divides it, as a"
        " soft cap does, or if and_masks or or_masks has made mask_mod",
        instead="IndexError; of other calls before 2.9, and of scaled_dot_product_attention, the output is 0",
        applies=_has_no_keys,
        change=lambda computation, call: raising(computation, "IndexError", _NO_KEYS),
        pinned=FlexAttention(S=0, D=2, Dv=2, softcap=2.0),
        remedies=(_ONE_KEY,),
        stage="call",
    ),
)
