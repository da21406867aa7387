"""Reads a call of flex_attention: mask_mod and score_mod are evaluated at all positions of query and key.

The grids become masks of the call, for the rules about mistakes, and data of the reference (reference/flex.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from reference.flex import BlockMask
from tests.harness.cases.case import Case, FlexAttention
from tests.harness.cases.dtypes import PRECISIONS, held
from tests.harness.cases.masks import Mask
from tests.harness.contents.given import GivenContents
from tests.harness.contents.results import as_held
from tests.harness.execution.runner import Observation

from .calls import Made
from .compiled import is_fused
from .describe import dtype_name, to_array, with_nan
from .inexpressible import Inexpressible, Unfit

_REFUSED = {  # {words of torch's error: the reason of the documented refusal}
    "FlexAttention does not support backward on CPU": "an input requires a gradient, on CPU since 2.11",
    "Captured buffers that require grad are not yet supported": "score_mod reads a tensor that requires a gradient,"
    " which it may since 2.6",
    "block_mask was created for": "block_mask is of other lengths than query and key",
    "torch.compile on CPU only supports inference and `return_lse` is not supported": "compiled on CPU, it takes no"
    " input that requires a gradient, and returns no log-sum-exp",
}


def described_flex(made: Made, most: int) -> tuple[Case, Observation]:
    """The case of a call of flex_attention and what was observed; fills `made.evaluated`.

    most: scores that are compared; of a larger call, the first samples. Raises Inexpressible, or Unfit for arguments
    that do not fit each other, or that torch documents to refuse.
    """
    _require_fit(made)
    case = _case(made, most)
    B, (L, S) = case.batch[0], (case.L, case.S)
    masks, blocks, change = {}, None, None
    if (block_mask := made.arguments.get("block_mask")) is not None:
        blocks = _blocks(block_mask, B)
        _require_blocks(block_mask, made.arguments["query"].shape[:2], L, S)
        masks["kept_mask"] = _kept(block_mask.mask_mod, case, made.device)
        visible = replace(blocks, mask_mod=masks["kept_mask"]).visible(L, S)
        made.evaluated["block_mask"] = torch.from_numpy(without_copies(visible))
        case = replace(case, kept_mask=Mask("bool", "random"), block_size=blocks.block_size, blocks_by="lists")
    if (score_mod := made.arguments.get("score_mod")) is not None:
        change, masks["added_mask"] = _change(score_mod, made, case)
        made.evaluated["score_mod"] = torch.from_numpy(without_copies(masks["added_mask"]))
        if blocks is not None:  # numbers that the blocks hide are no scores, and must not widen the error bound
            masks["added_mask"] = np.where(visible, masks["added_mask"], 0)
        case = replace(case, added_mask=Mask("float", "random", "bias"))
    _require_accepted(made)
    mask_batch = case.batch if masks else (1, 1)
    contents = GivenContents(_inputs(made, case), masks, {}, blocks=blocks, score_mod=change)
    return with_nan(replace(case, seed=contents, mask_batch=mask_batch)), _observation(made, case)


def _require_fit(made):
    query, key, value = (made.arguments[name] for name in ("query", "key", "value"))
    if {query.ndim, key.ndim, value.ndim} != {4}:
        raise Unfit("query, key and value have not four dimensions")
    shapes = [tuple(tensor.shape) for tensor in (query, key, value)]
    heads = query.shape[1] if not made.arguments.get("enable_gqa") else key.shape[1]
    fits = key.shape[:3] == value.shape[:3] and key.shape[-1] == query.shape[-1] and key.shape[1] == heads
    if not fits or key.shape[0] not in (1, query.shape[0]) or (heads and query.shape[1] % heads):
        raise Unfit(f"query {shapes[0]}, key {shapes[1]} and value {shapes[2]} do not fit each other")
    dtypes = {dtype_name(tensor.dtype) for tensor in (query, key, value)}
    if len(dtypes) > 1 or not dtypes <= PRECISIONS.keys():
        raise Inexpressible(f"its inputs have dtype {' and '.join(sorted(dtypes))}")
    if made.around.autocast and {made.around.autocast} != dtypes:
        raise Inexpressible(f"autocast from {dtypes.pop()} to {made.around.autocast}")


def _require_accepted(made):
    """Raise Unfit if torch raised an error that it documents."""
    for words, reason in _REFUSED.items():
        if made.error is not None and words in str(made.error):
            raise Unfit(reason)


def _case(made, most):
    """The case without its masks, and with no more samples than are compared."""
    query, key, value = (made.arguments[name] for name in ("query", "key", "value"))
    (B, H, L, D), S = query.shape, key.shape[2]
    kept = min(B, most // max(H * L * S, 1))
    if kept < B and kept == 0:
        raise Inexpressible(f"it has {H * L * S:,} scores in one sample, more than {most:,}")
    scale = made.arguments.get("scale")
    return FlexAttention(
        mode="compiled_inductor" if is_fused(made.compiled) else "eager",
        dtype=dtype_name(query.dtype),
        autograd="inference_mode" if made.around.infers else "frozen" if made.around.records else "no_grad",
        batch=(kept, H),
        L=L,
        S=S,
        D=D,
        Dv=value.shape[3],
        scale=None if scale is None else float(scale),
        kv_heads=key.shape[1] if made.arguments.get("enable_gqa") else None,
        lse=_lse(made),
    )


def _lse(made):
    """The argument by which the call asks for the log-sum-exp."""
    if made.arguments.get("return_lse"):
        return "return_lse"
    return "return_aux" if getattr(made.arguments.get("return_aux"), "lse", False) else ""


def _inputs(made, case):
    heads = case.batch[1] if case.kv_heads is None else case.kv_heads
    arrays = {}
    for name in ("query", "key", "value"):
        array = as_held(case, name, to_array(made.arguments[name]))
        arrays[name] = np.broadcast_to(array, (made.arguments["query"].shape[0], *array.shape[1:]))[: case.batch[0]]
    assert arrays["key"].shape[1] == heads
    return arrays


def _observation(made, case):
    if made.error is not None:
        return Observation(error=(type(made.error).__name__, str(made.error)))
    output, *others = made.result if isinstance(made.result, tuple) else (made.result,)
    results = {"output": output}
    if case.lse:
        lse = others[0] if case.lse == "return_lse" else others[0].lse
        results |= {} if lse is None else {"lse": lse}
    dtypes = {name: dtype_name(tensor.dtype) for name, tensor in results.items()}
    return Observation({name: to_array(tensor)[: case.batch[0]] for name, tensor in results.items()}, dtypes)


# ---- the functions at all positions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """The score_mod of a call as the reference takes it."""

    evaluate: Callable[[np.ndarray], np.ndarray]  # scores (B, H, L, S) -> changed scores
    hidden: np.ndarray  # bool (B, H, L, S): True where the call's score becomes -inf

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The changed scores; hidden positions keep theirs."""
        return np.where(self.hidden, scores, self.evaluate(scores))


class _ReadingByTensors(TorchFunctionMode):
    """Lets a function that torch.vmap calls read `tensor[b, q_idx]`: Python's indexing would ask for a number."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__getitem__:
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if all(isinstance(index, torch.Tensor) for index in indices):
                return torch.ops.aten.index(args[0], indices)
        return func(*args, **(kwargs or {}))


def _at_all_positions(function, case, device, *scores):
    """The values of a function of (b, h, q_idx, kv_idx), or of a score before them, as an array (B, H, L, S)."""
    lead = (0,) * len(scores)
    for position in (3, 2, 1, 0):
        function = torch.vmap(function, in_dims=(*lead, *(0 if its == position else None for its in range(4))))
    indices = (torch.arange(size, dtype=torch.int32, device=device) for size in (*case.batch, case.L, case.S))
    try:
        with torch._C._EnableTorchFunction(), _ReadingByTensors(), torch.no_grad():
            return to_array(function(*scores, *indices))
    except Exception as error:  # foreign code can raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())
        name = "score_mod" if scores else "mask_mod"
        raise Inexpressible(f"its {name} cannot be evaluated at all positions: {said[:200]}") from None


def _kept(mask_mod, case, device) -> np.ndarray:
    """bool (B, H, L, S): True where mask_mod keeps."""
    if 0 in (*case.batch, case.L, case.S):
        return np.ones((*case.batch, case.L, case.S), bool)
    return _at_all_positions(mask_mod, case, device).astype(bool)


def _change(score_mod, made, case) -> tuple[Change, np.ndarray]:
    """The score_mod for the reference, and the numbers (B, H, L, S) that it adds to the scores of the call."""

    def evaluate(scores: np.ndarray) -> np.ndarray:
        if scores.size == 0:
            return scores
        tensor = torch.from_numpy(np.ascontiguousarray(scores)).to(made.device)
        return _at_all_positions(score_mod, case, made.device, tensor).astype(scores.dtype)

    scores = _scores(made, case)
    changed = evaluate(scores)
    hidden = np.isneginf(changed)
    added = np.where(hidden, -np.inf, np.where(hidden, 0, changed) - scores)
    return Change(evaluate, hidden), added.astype(held(case.dtype))


def _scores(made, case) -> np.ndarray:
    """float64 (B, H, L, S): the scaled scores of the call."""
    inputs = {name: array.astype("float64") for name, array in _inputs(made, case).items()}
    key = np.repeat(inputs["key"], case.batch[1] // max(inputs["key"].shape[1], 1), axis=1)
    scale = 1 / sqrt(case.D) if case.scale is None else case.scale
    return scale * (inputs["query"] @ np.swapaxes(key, -1, -2))


# ---- the blocks ----------------------------------------------------------------------------------------------------


def _blocks(block_mask: Any, B: int) -> BlockMask:
    """The lists of a BlockMask, without its mask_mod, for the first samples."""

    def listed(name):
        tensor = getattr(block_mask, name)
        return None if tensor is None else to_array(tensor)[:B]

    rows, columns = block_mask.BLOCK_SIZE
    return BlockMask(
        listed("kv_num_blocks"),
        listed("kv_indices"),
        listed("full_kv_num_blocks"),
        listed("full_kv_indices"),
        (int(rows), int(columns)),
    )


def _require_blocks(block_mask, batch, L, S):
    """Raise Unfit for fewer blocks, samples or heads than the call has. batch: (B, H) of the call."""
    *sizes, rows, columns = block_mask.kv_indices.shape
    covered = rows * block_mask.BLOCK_SIZE[0], columns * block_mask.BLOCK_SIZE[1]
    if covered[0] < L or covered[1] < S:
        raise Unfit(f"block_mask has blocks for {covered[0]} queries and {covered[1]} keys, not for {L} and {S}")
    if any(1 < size < whole for size, whole in zip(sizes, batch, strict=True)):
        raise Unfit(f"block_mask has {sizes} samples and heads, query {list(batch)}: each must be as many, or 1")


def without_copies(array: np.ndarray) -> np.ndarray:
    """An array (B, H, L, S) with one sample, or one head, if all are equal."""
    for axis in (0, 1):
        first = array.take(range(min(1, array.shape[axis])), axis=axis)
        if (array == first).all():
            array = first
    return np.ascontiguousarray(array)
