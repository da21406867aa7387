"""The block masks and score_mods of FlexAttention, as data of the reference (reference/flex.py)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from reference.flex import BlockMask, ScoreMod, create_block_mask
from reference.masks import as_bias

from ..cases.case import FlexAttention
from .given import GivenContents


def block_mask(case: FlexAttention, kept: np.ndarray) -> BlockMask:
    """The BlockMask of the case. kept: bool, the positions that mask_mod keeps, of the shape that the case tells."""
    block_size = case.block_size[0], case.block_size[1]
    if case.has_lists:
        given = case.seed.blocks if isinstance(case.seed, GivenContents) else None
        lists = given or _random_lists(case, block_size)
        return replace(lists, mask_mod=kept if case.has_mask_mod else None)
    if case.slices_samples:
        kept = kept[1:]
    if case.blocks_by == "slice_of_queries":
        kept = kept[..., case.block_size[0] :, :]
    created = create_block_mask(kept, block_size)
    return created.adjusted(case.L, case.S) if case.is_adjusted else created


def _random_lists(case, block_size):
    """Blocks in random order: the first ones of a row are partial, some of the last ones full."""
    rng = np.random.default_rng([case.seed, 6])
    rows, columns = (-(-n // size) for n, size in zip((case.L, case.S), block_size, strict=True))
    order = np.argsort(rng.random((*case.mask_batch, rows, columns)), axis=-1).astype("int32")
    partial = rng.integers(0, columns + 1, order.shape[:-1], dtype="int32")
    full = rng.integers(0, columns + 1 - partial, dtype="int32")
    return BlockMask(partial, order, full, order[..., ::-1], block_size)


def longest_list(mask: BlockMask) -> int:
    """The number of blocks in the longest list, at least 1."""
    numbers = (its for its in (mask.kv_num_blocks, mask.full_kv_num_blocks) if its is not None)
    return max(1, *(int(its.max(initial=0)) for its in numbers))


def score_mod(case: FlexAttention, added: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """The score_mod of the case; None if it has none. added: its mask, bool (True keeps) or float."""
    if isinstance(case.seed, GivenContents):
        return case.seed.score_mod if added is not None else None
    bias = None if added is None else as_bias(added, "float32", true_hides=False)
    return None if bias is None and case.softcap is None else ScoreMod(bias, case.softcap)
