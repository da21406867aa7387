"""torch.nn.attention.flex_attention on CPU."""

from dataclasses import replace

import numpy as np

from reference.derivative import complex_of
from reference.flex import attend_by_scores, create_block_mask

from ..cases.case import Case, FlexAttention
from ..cases.masks import Mask
from ..contents.arrays import biases, directions, mask_arrays, nonfinite_positions
from ..contents.blocks import block_mask, longest_list
from ..expectation.changes import raising
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.modes import BY_ID
from ..releases import since
from .call import Call
from .entry import Deviation
from .hidden_content import FILLED
from .remedies import Condition, Remedy, changed, until, upgrade


def is_compiled(call: Call) -> bool:
    """True if inductor compiles the call; otherwise it is computed from all scores."""
    return BY_ID[call.case.mode].builds


def learns_inputs(case: Case) -> bool:
    """True if query, key or value requires a gradient."""
    return not directions(case).keys().isdisjoint(("query", "key", "value"))


def learns_captured(case: Case) -> bool:
    """True if the mask that score_mod adds requires a gradient."""
    return "added_mask" in directions(case)


# ---- the BlockMask cannot be made ------------------------------------------------------------------------------------


def _reads_past_the_end(call):
    """True if 2.5 rounds the lengths up to blocks, and mask_mod reads a mask that is as long as the sequences."""
    case = call.case
    if not _is_created(case) or case.compares_positions or since(call.release, "2.6"):
        return False
    _, _, L, S = case.mask_shape("kept_mask")
    return bool(S % case.block_size[1] or (L >= 128 and L % case.block_size[0]))


def _is_created(case):
    return case.is_flex and case.kept_mask is not None and not case.has_lists


def _has_no_positions(call):
    """True if create_block_mask is given a length of 0, and fills up the other one; in 2.5 if there are no queries."""
    case = call.case
    lengths = case.mask_shape("kept_mask")[2:] if _is_created(case) and not _joins_no_keys(call) else ()
    if not since(call.release, "2.6"):
        return 0 in lengths[:1]
    return 0 in lengths and any(length % size for length, size in zip(lengths, case.block_size, strict=True))


def _empty_error(computation, call):
    if since(call.release, "2.6"):
        return raising(computation, "RuntimeError", "resulted in a negative output size")
    return raising(computation, "ZeroDivisionError", "modulo by zero")


def _joins_no_keys(call):
    """True if create_block_mask asks a function of and_masks or or_masks about no keys."""
    return _is_created(call.case) and bool(call.case.joined) and call.case.mask_shape("kept_mask")[-1] == 0


def makes_no_block_mask(call: Call) -> bool:
    """True if the BlockMask cannot be made in this release."""
    if _reads_past_the_end(call) or _joins_no_keys(call):
        return True
    if _has_no_positions(call) and not since(call.release, "2.10"):
        return True
    if _is_created(call.case) and call.case.reads_kept_mask and reads_by_number(call):
        return not since(call.release, "2.11")
    return (_adjusts_out_of_bounds(call) or _lists_beyond_their_width(call)) and not since(call.release, "2.14")


def _is_adjusted_to_parts_of_blocks(call):
    case = call.case
    if not case.is_flex or case.kept_mask is None or not case.is_adjusted:
        return False
    return any(length % size for length, size in zip((case.L, case.S), case.block_size, strict=True))


def _does_not_fit(computation, call):
    if since(call.release, "2.7"):
        return raising(computation, "ValueError", "block_mask was created for")
    return raising(computation, "ValueError|IndexError", "block_mask was created for|is out of bounds for dimension 3")


def _adjusts_out_of_bounds(call):
    """True if BlockMask._adjust counts more blocks in a row than the row has left, and lists one that is cut off.

    It counts the listed columns that are smaller than the number of blocks, wherever they stand in the list.
    """
    case = call.case
    if not case.is_flex or case.kept_mask is None or not case.is_adjusted or _has_no_positions(call):
        return False
    whole = create_block_mask(mask_arrays(case)["kept_mask"], (case.block_size[0], case.block_size[1]))
    rounded = -1 if since(call.release, "2.7") else 1  # 2.6 rounds down
    rows, columns = (rounded * (rounded * n // size) for n, size in zip((case.L, case.S), case.block_size, strict=True))
    return any(
        _lists_too_much(numbers[..., :rows], indices[..., :rows, :columns], columns)
        for numbers, indices in _lists_of(whole)
    )


def _lists_of(mask):
    """(number of blocks in each row, their columns) of the partial blocks, and of the full ones."""
    return (mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)


def _lists_too_much(numbers, indices, columns):
    counted = (indices < np.minimum(numbers, columns)[..., None]).sum(axis=-1)
    return _lists_beyond(counted, indices, columns)


def _lists_beyond(numbers, indices, columns):
    """True if a block is listed whose column is larger than `columns`; one more column takes what is not listed."""
    is_listed = np.arange(indices.shape[-1]) < numbers[..., None]
    return bool((indices[is_listed] > columns).any())


def _lists_beyond_their_width(call):
    """True if a tensor of lists, taken for as wide as the keys, lists a block behind its width."""
    case = call.case
    if not case.is_flex or case.kept_mask is None or case.blocks_by != "narrow_lists":
        return False
    mask = block_mask(case, mask_arrays(case)["kept_mask"])
    width = longest_list(mask)
    return any(_lists_beyond(numbers, indices[..., :width], width) for numbers, indices in _lists_of(mask))


def reads_by_number(call: Call) -> bool:
    """True if a function reads a mask at an index that holds a number beside tensors.

    score_mod is not called beside a BlockMask that does not fit.
    """
    case = call.case
    if not case.is_flex or not case.by_number or not any(case.shares_mask):
        return False
    fits = not (_is_slice_of_queries(call) or _is_adjusted_to_parts_of_blocks(call)) or not since(call.release, "2.6")
    return case.reads_kept_mask or (case.added_mask is not None and fits)


def _is_slice_of_queries(call):
    return _is_created(call.case) and call.case.blocks_by == "slice_of_queries" and not _joins_no_keys(call)


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


_CREATED = Condition("the BlockMask is that of create_block_mask", lambda case: case.blocks_by == "create_block_mask")
_BY_MASK_MOD = Remedy(
    "Hide the keys by mask_mod.",
    _with_kept_mask,
    ">=2.6",  # create_block_mask of 2.5 asks mask_mod for positions behind the sequences
    only=(_CREATED,),
)
_NO_LSE = Condition("the log-sum-exp is not asked for", lambda case: not case.lse)


def _differentiates_nothing(call):
    """True if the gradients of inputs without samples or keys are asked for."""
    case = call.case
    return case.is_flex and learns_inputs(case) and 0 in (*case.batch, case.S)


_NO_KEYS = "Expected reduction dim 3 to have non-zero size|index 0 out of range for tensor of size"
_POWERS = until(
    "2.7",  # before, other numbers of features are refused
    Condition(
        "the numbers of features are equal powers of 2",
        lambda case: case.Dv == case.D and case.D in {2**power for power in range(1, 11)},
    ),
)
_BY_BLOCKS_OF_MASK_MOD = Remedy(
    "Give create_block_mask a mask_mod that hides the blocks.",
    changed(blocks_by="create_block_mask", kept_mask=Mask("bool", "random")),
)
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
        remedies=(_BY_BLOCKS_OF_MASK_MOD,),
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
    Deviation(
        id="flex-adjusted-blocks",
        title="A BlockMask that is adjusted to a part of a block does not fit",
        affects=">=2.6,<2.13",
        upstream="pytorch/pytorch#175533",
        clause=3,
        trigger="BlockMask._adjust, as the error of flex_attention advises, to a length that no block divides",
        instead="ValueError: the adjusted BlockMask has the lengths of whole blocks, in 2.6 of one block less; 2.6 may"
        " also raise IndexError while it adjusts",
        applies=_is_adjusted_to_parts_of_blocks,
        change=_does_not_fit,
        pinned=FlexAttention(D=2, Dv=2, kept_mask=Mask("bool", "none"), block_size=(2, 2), blocks_by="adjustment"),
        remedies=(
            Remedy("Create a BlockMask of the new lengths.", changed(blocks_by="create_block_mask")),
            upgrade("2.13"),
        ),
        stage="call",
    ),
    Deviation(
        id="flex-adjusted-far",
        title="BlockMask._adjust raises for some masks if it cuts off several blocks",
        affects=">=2.6,<2.14",
        upstream="pytorch/pytorch#186186",
        clause=3,
        trigger="BlockMask._adjust to a length that is two blocks of keys shorter, or more, if a row keeps blocks at"
        " its end and not at its beginning",
        instead="IndexError: the remaining blocks are miscounted, so that one that is cut off is listed",
        applies=_adjusts_out_of_bounds,
        change=lambda computation, call: raising(computation, "IndexError", "is out of bounds for dimension"),
        pinned=FlexAttention(
            S=2, D=2, Dv=2, kept_mask=Mask("bool", "random"), block_size=(1, 1), blocks_by="far_adjustment"
        ),
        remedies=(
            Remedy("Create a BlockMask of the new lengths.", changed(blocks_by="create_block_mask"), only=(_POWERS,)),
            upgrade("2.14"),
        ),
        stage="call",
    ),
    Deviation(
        id="flex-narrow-lists",
        title="BlockMask.from_kv_blocks raises for lists that are narrower than the keys",
        affects=">=2.6,<2.14",
        upstream="pytorch/pytorch#153344",
        clause=3,
        trigger="seq_lengths is given, kv_indices and full_kv_indices are as wide as the longest list of blocks, and"
        " list a block whose column is larger than that width (without seq_lengths all releases raise, as the number of"
        " keys is unknown)",
        instead="IndexError: the width of the tensors is taken for that of the keys",
        applies=_lists_beyond_their_width,
        change=lambda computation, call: raising(computation, "IndexError", "is out of bounds for dimension"),
        pinned=FlexAttention(
            S=3, D=2, Dv=2, kept_mask=Mask("bool", "none"), block_size=(1, 1), blocks_by="narrow_lists", seed=24
        ),
        remedies=(replace(_BY_BLOCKS_OF_MASK_MOD, only=(_POWERS,)),),
        stage="call",
    ),
    Deviation(
        id="flex-slice-keeps-length",
        title="A BlockMask that is sliced by blocks of queries does not fit",
        affects=">=2.6,<2.14",
        upstream="pytorch/pytorch#143260",
        clause=3,
        trigger="a BlockMask is sliced by blocks of queries, such as block_mask[:, :, 1:]",
        instead="ValueError: the slice has the number of queries of the whole BlockMask",
        applies=_is_slice_of_queries,
        change=lambda computation, call: raising(computation, "ValueError", "block_mask was created for"),
        pinned=FlexAttention(
            D=2, Dv=2, kept_mask=Mask("bool", "none"), block_size=(1, 1), blocks_by="slice_of_queries"
        ),
        remedies=(
            Remedy("Create a BlockMask of these queries.", changed(blocks_by="create_block_mask")),
            upgrade("2.14"),
        ),
        stage="call",
    ),
    Deviation(
        id="flex-empty-block-mask",
        title="create_block_mask raises for a length of 0",
        affects=">=2.5,<2.10",
        upstream="not found",
        clause=1,
        trigger="create_block_mask is given a length of 0, and no block divides the other length; in 2.5 no queries",
        instead="RuntimeError, in 2.5 ZeroDivisionError",
        applies=_has_no_positions,
        change=_empty_error,
        pinned=FlexAttention(L=0, D=2, Dv=2, kept_mask=Mask("bool", "causal")),
        remedies=(Remedy("Call without a BlockMask.", changed(kept_mask=None), only=(_NO_LSE,)), upgrade("2.10")),
        stage="call",
    ),
    Deviation(
        id="flex-mask-mod-past-the-end",
        title="create_block_mask asks mask_mod for positions behind the sequences",
        affects=">=2.5,<2.6",
        upstream="pytorch/pytorch#137801",
        clause=2,
        trigger="mask_mod reads a tensor that is as long as the sequences, and no block divides the number of keys, or"
        " that of 128 or more queries",
        instead="IndexError, as the lengths are rounded up to whole blocks",
        applies=_reads_past_the_end,
        change=lambda computation, call: raising(computation, "IndexError", "is out of bounds"),
        pinned=FlexAttention(D=2, Dv=2, kept_mask=Mask("bool", "none")),
        remedies=(
            Remedy("Give a BLOCK_SIZE that divides the lengths.", changed(block_size=(1, 1))),
            upgrade("2.6"),
        ),
        stage="call",
    ),
    Deviation(
        id="flex-number-in-index",
        title="A mask_mod or score_mod that reads a mask at an index with a number raises",
        affects=">=2.5,<2.11",
        upstream="pytorch/pytorch#154197",
        clause=3,
        trigger="mask_mod or score_mod reads a tensor at an index that holds a number beside positions, such as"
        " mask[b, 0, q_idx, kv_idx]",
        instead="RuntimeError of vmap, or of score_mod Unsupported or UserError of torch.compile: the number becomes a"
        " tensor, and is taken out of it again",
        applies=reads_by_number,
        change=lambda computation, call: raising(
            computation, "RuntimeError|Unsupported|UserError", r"calling .item\(\) on a Tensor|[Dd]ata.dependent"
        ),
        pinned=FlexAttention(
            batch=(2, 2), S=2, D=2, Dv=2, added_mask=Mask("bool", "one"), mask_batch=(2, 1), by_number=True
        ),
        remedies=(
            Remedy(
                "Take the part first: part = mask[:, 0], and part[b, q_idx, kv_idx].",
                changed(by_number=False),
                ">=2.6",
                (_CREATED, _POWERS),
            ),
            Remedy(
                "Take the part first: part = mask[:, 0], and part[b, q_idx, kv_idx]; give a BLOCK_SIZE that divides the"
                " lengths.",
                changed(by_number=False, block_size=(1, 1)),
                "==2.5.*",
                (_CREATED, _POWERS),
            ),
            upgrade("2.11"),
        ),
        stage="call",
    ),
)
