"""torch.nn.attention.flex_attention: a score_mod changes the scores, a BlockMask hides keys (clauses 1, 2 and 4).

torch takes functions of one score or position; here they are data: mask_mod is its bool values at all positions, and
score_mod is the numbers in one formula. Shapes use B (batch), H (heads of the query), L (queries) and S (keys); a
dimension of B or H may be 1 and is then broadcast.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import masks
from .attention import added, context, exponentials, for_each_query_head
from .derivative import complex_of


@dataclass(frozen=True)
class ScoreMod:
    """A score_mod: score -> cap * tanh(score / cap) + bias; a cap or bias of None is left out."""

    bias: np.ndarray | None = None  # (B, H, L, S); -inf hides the key
    cap: float | None = None

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The changed scores (B, H, L, S). A position that the bias hides keeps its score: see `hidden`."""
        if self.cap is not None:
            scores = self.cap * np.tanh(scores / self.cap)
        return scores if self.bias is None else added(scores, self.bias)

    @property
    def hidden(self) -> np.ndarray | bool:
        """bool (B, H, L, S): True where the score becomes -inf."""
        return False if self.bias is None else masks.hidden(self.bias)


@dataclass(frozen=True)
class BlockMask:
    """The blocks of keys that each block of queries sees: partial ones through mask_mod, full ones whole.

    A row of `kv_indices` lists the columns of its blocks; entries behind the first `kv_num_blocks` are undefined.
    """

    kv_num_blocks: np.ndarray  # int (B, H, rows)
    kv_indices: np.ndarray  # int (B, H, rows, columns)
    full_kv_num_blocks: np.ndarray | None = None  # as kv_num_blocks; None if no block is full
    full_kv_indices: np.ndarray | None = None  # as kv_indices
    block_size: tuple[int, int] = (128, 128)  # of queries, of keys
    mask_mod: np.ndarray | None = None  # bool (B, H, L, S): True keeps; None keeps all

    def visible(self, L: int, S: int) -> np.ndarray:
        """bool (B, H, L, S): True where a query sees a key."""
        rows, columns = (np.arange(n) // size for n, size in zip((L, S), self.block_size, strict=True))
        partial, full = (blocks[..., rows[:, None], columns] for blocks in self.blocks)
        return full | (partial if self.mask_mod is None else partial & self.mask_mod[..., :L, :S])

    @property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """The partial and the full blocks: bool (B, H, rows, columns)."""
        partial = _listed(self.kv_num_blocks, self.kv_indices)
        if self.full_kv_num_blocks is None or self.full_kv_indices is None:
            return partial, np.zeros_like(partial)
        return partial, _listed(self.full_kv_num_blocks, self.full_kv_indices)

    def adjusted(self, L: int, S: int) -> "BlockMask":
        """The mask for the first L queries and S keys, as BlockMask._adjust gives it."""
        rows, columns = (-(-n // size) for n, size in zip((L, S), self.block_size, strict=True))
        partial, full = (blocks[..., :rows, :columns] for blocks in self.blocks)
        mask_mod = None if self.mask_mod is None else self.mask_mod[..., :L, :S]
        return replace(of_blocks(partial, full, self.block_size), mask_mod=mask_mod)


def _listed(numbers, indices):
    """bool (B, H, rows, columns): True at the blocks that are listed."""
    dense = np.zeros(indices.shape, bool)
    is_listed = np.arange(indices.shape[-1]) < numbers[..., None]
    *row, place = np.nonzero(is_listed)
    dense[*row, indices[*row, place]] = True
    return dense


def of_blocks(partial: np.ndarray, full: np.ndarray, block_size: tuple[int, int]) -> BlockMask:
    """The BlockMask of these blocks, bool (B, H, rows, columns)."""
    return BlockMask(*_lists(partial), *_lists(full), block_size)


def _lists(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of blocks in each row, and their columns, followed by those of the other blocks."""
    return blocks.sum(axis=-1, dtype="int32"), np.argsort(~blocks, axis=-1, kind="stable").astype("int32")


def create_block_mask(mask_mod: np.ndarray, block_size: tuple[int, int] = (128, 128)) -> BlockMask:
    """The BlockMask of a mask_mod, bool (B, H, L, S): a block is full if it keeps all, partial if it keeps some."""
    *batch, L, S = mask_mod.shape
    rows, columns = (-(-n // size) for n, size in zip((L, S), block_size, strict=True))
    padded = np.zeros((*batch, rows * block_size[0], columns * block_size[1]), bool)
    padded[..., :L, :S] = mask_mod
    parts = padded.reshape(*batch, rows, block_size[0], columns, block_size[1])
    some, every = np.any(parts, (-3, -1)), np.all(parts, (-3, -1))
    return replace(of_blocks(some & ~every, every, block_size), mask_mod=mask_mod)


def attend_by_scores(scores: np.ndarray, value: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The context softmax(scores) @ value over the visible keys, and the logarithm of the sum of exp(score) over them.

    scores, hidden (B, H, L, S), value (B, H, S, Dv) -> (B, H, L, Dv), (B, H, L). A fully masked query gets a zero
    context and -inf (clause 4).
    """
    powers, total, highest = exponentials(np.where(hidden, 0, scores), hidden)
    some = np.where(total == 0, 1, total)
    logarithm = np.where(total == 0, -np.inf, _log(some) + np.where(np.isfinite(highest), highest, 0))
    return context(powers / some, value, hidden), logarithm[..., 0]


def _log(x: np.ndarray) -> np.ndarray:
    """The logarithm. Of a complex step (derivative.py) to first order: log(1 + ih) has a real part of h * h / 2."""
    is_step = isinstance(x, np.ndarray) and np.iscomplexobj(x)
    return complex_of(np.log(x.real), x.imag / x.real) if is_step else np.log(x)


def flex_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    block_mask: BlockMask | None = None,
    score_mod: ScoreMod | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    kernel: Callable[..., tuple[np.ndarray, np.ndarray]] = attend_by_scores,
) -> tuple[np.ndarray, np.ndarray]:
    """The output (B, H, L, Dv) and the log-sum-exp of the scores (B, H, L).

    query (B, H, L, D), key (B, H, S, D), value (B, H, S, Dv); with enable_gqa, key and value may have fewer heads.
    Scores are scaled by `scale`, 1 / sqrt(D) if None, then changed by score_mod, then hidden by block_mask.
    kernel: takes and returns the values that `attend_by_scores` does.
    """
    if enable_gqa:
        key, value = (for_each_query_head(x, query) for x in (key, value))
    scores = (1 / np.sqrt(query.shape[-1]).item() if scale is None else scale) * (query @ np.swapaxes(key, -1, -2))
    hidden: np.ndarray | bool = False
    if score_mod is not None:
        scores, hidden = score_mod(scores), score_mod.hidden
    if block_mask is not None:
        hidden = hidden | ~block_mask.visible(*scores.shape[-2:])
    return kernel(scores, value, np.broadcast_to(hidden, scores.shape))
