"""Block masks of torch.nn.attention.flex_attention that cannot be made, or that do not fit once they are."""

from dataclasses import replace

import numpy as np

from reference.flex import create_block_mask

from ..cases.case import FlexAttention
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..contents.blocks import block_mask, longest_list
from ..expectation.changes import raising
from ..releases import since
from .call import Call
from .entry import Deviation
from .remedies import Condition, Remedy, changed, until, upgrade


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


CREATED = Condition("the BlockMask is that of create_block_mask", lambda case: case.blocks_by == "create_block_mask")
POWERS = until(
    "2.7",  # before, other numbers of features are refused
    Condition(
        "the numbers of features are equal powers of 2",
        lambda case: case.Dv == case.D and case.D in {2**power for power in range(1, 11)},
    ),
)
BY_BLOCKS_OF_MASK_MOD = Remedy(
    "Give create_block_mask a mask_mod that hides the blocks.",
    changed(blocks_by="create_block_mask", kept_mask=Mask("bool", "random")),
)
_NO_LSE = Condition("the log-sum-exp is not asked for", lambda case: not case.lse)

ENTRIES = (
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
            Remedy("Create a BlockMask of the new lengths.", changed(blocks_by="create_block_mask"), only=(POWERS,)),
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
        remedies=(replace(BY_BLOCKS_OF_MASK_MOD, only=(POWERS,)),),
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
                (CREATED, POWERS),
            ),
            Remedy(
                "Take the part first: part = mask[:, 0], and part[b, q_idx, kv_idx]; give a BLOCK_SIZE that divides the"
                " lengths.",
                changed(by_number=False, block_size=(1, 1)),
                "==2.5.*",
                (CREATED, POWERS),
            ),
            upgrade("2.11"),
        ),
        stage="call",
    ),
)
