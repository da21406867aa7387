"""The results of a case: their shapes in torch, the rows that count, and the weights of the differentiated sum."""

from collections.abc import Mapping

import numpy as np

from ..cases.case import Case, DotProduct, is_padding
from ..cases.dtypes import rounded
from ..modes.modes import computed_in
from .arrays import ignored
from .packing import packs, padded_queries


def present(case: Case, results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The results of the reference in the shapes that the call returns.

    results: batch-first, with the weights of each head.
    """
    if not case.has_parameters:
        return results
    output = results["output"]
    if not case.batched:
        output = output[0]
    elif is_sequence_first(case):
        output = output.swapaxes(0, 1)
    if not case.need_weights:
        return {"output": output}
    weights = results["weights"]
    weights = weights.mean(axis=1) if case.average_attn_weights else weights
    return {"output": output, "weights": weights if case.batched else weights[0]}


def garbage_rows(case: Case, results: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray | None]:
    """{result name: bool array or None}: True in rows whose query is garbage, or is left out by the packing.

    Garbage has huge scores, so each row needs an error bound of its own. results: in the shapes of torch.
    """
    if not case.attends:
        return dict.fromkeys(results)
    if isinstance(case, DotProduct):
        rows = padded_queries(case)
        return dict.fromkeys(results, None if rows is None else rows[..., None])
    query = case.query_input
    counts_not = case.garbage or packs(case)
    rows = ignored(case).get(query if case.attention != "copies" else "key") if counts_not else None
    if rows is None:
        return dict.fromkeys(results)
    if not case.batched:
        return dict.fromkeys(results, rows[0][:, None])
    by_result = dict.fromkeys(results, rows[:, :, None])
    if "weights" in results and not case.average_attn_weights:
        by_result["weights"] = rows[:, None, :, None]
    if is_sequence_first(case):
        by_result["output"] = by_result["output"].swapaxes(0, 1)
    if by_result["output"].shape[:2] != results["output"].shape[:2]:  # the release has cut off padded positions
        return dict.fromkeys(results)
    return by_result


def cotangents(case: Case, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """{name: array}: the weight of each element in the differentiated sum of the results; 0 in rows of garbage.

    They can be expanded in memory if the layout of the inputs is "expanded": all are 1, as of a plain sum, or equal in
    all positions, where a sum over features would have no gradient behind a norm.
    shapes: {name: shape} of the results.
    """
    rng = np.random.default_rng([case.seed, 3])
    arrays = {
        name: rounded(np.round(rng.normal(0, 1, shape), 3), computed_in(case)) for name, shape in sorted(shapes.items())
    }
    if case.layout == "expanded":
        arrays = {name: _repeated(array) if case.has_layers else np.ones_like(array) for name, array in arrays.items()}
    for name, rows in garbage_rows(case, arrays).items():
        if rows is not None:
            arrays[name] = np.where(rows, 0, arrays[name])
    return arrays


def _repeated(array):
    """The array with its first row in the place of all rows."""
    rows = array.reshape(-1, array.shape[-1])[:1]
    return np.broadcast_to(rows.reshape(-1), array.shape).copy() if array.size else array


def as_given(case: Case, name: str, array: np.ndarray) -> np.ndarray:
    """An input, mask or parameter in the layout of the call: unbatched, sequence-first or unchanged."""
    is_sequence = name in ("query", "key", "value", "src", "tgt", "memory")
    if not case.batched:
        return array[0] if is_sequence or is_padding(name) else array
    return array.swapaxes(0, 1) if is_sequence and is_sequence_first(case) else array


def as_held(case: Case, name: str, array: np.ndarray) -> np.ndarray:
    """The array in the batch-first layout of arrays.py: the inverse of `as_given`."""
    is_sequence = name in ("query", "key", "value", "src", "tgt", "memory")
    if not case.batched:
        return array[None] if is_sequence or is_padding(name) else array
    return array.swapaxes(0, 1) if is_sequence and is_sequence_first(case) else array


def is_sequence_first(case: Case) -> bool:
    """True if the length is the first dimension of the sequences of the call."""
    return not case.batch_first or case.functional
