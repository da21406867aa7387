"""The ways in which a mask may be misread, each a function (mask, call, true_hides) -> another mask.

None in place of a mask: the misreading has no meaning for it. true_hides: the polarity of a bool mask.
"""

from collections.abc import Callable

import numpy as np

from reference import masks as meaning

from ..cases.case import ScaledDotProduct


def hidden(mask: np.ndarray, true_hides: bool) -> np.ndarray:
    """bool: True at hidden positions of a bool or a float mask."""
    return (mask == true_hides) if mask.dtype == bool else meaning.hidden(mask)


def _as_given(hidden, mask, true_hides):
    """The mask that hides these positions, bool or float as `mask` is."""
    return (hidden == true_hides) if mask.dtype == bool else np.where(hidden, -np.inf, 0.0)


def _inverted(mask, call, true_hides):
    return _as_given(~hidden(mask, true_hides), mask, true_hides)


def _read_as_bool(mask, call, true_hides):
    return None if mask.dtype == bool else np.where(mask.real != 0, -np.inf, 0.0)


def _read_as_keeping(mask, call, true_hides):
    """A float mask as the other polarity of a bool mask: every number other than 0 keeps its key."""
    return None if mask.dtype == bool else np.where(mask.real == 0, -np.inf, 0.0)


def _added(mask, call, true_hides):
    return mask.astype("float64") if mask.dtype == bool else None


def _without_numbers(mask, call, true_hides):
    """A float mask as 0 and -inf: only its hidden positions count."""
    return None if mask.dtype == bool else np.where(meaning.hidden(mask), -np.inf, 0.0)


def _negated(mask, call, true_hides):
    return None if mask.dtype == bool else np.where(np.isfinite(mask), -mask, mask)


def _transposed(mask, call, true_hides):
    is_square = mask.ndim > 1 and mask.shape[-1] == mask.shape[-2]
    return np.swapaxes(mask, -1, -2) if is_square else None


def _reversed(mask, call, true_hides):
    return mask[..., ::-1]


def _lower_right(mask, call, true_hides):
    L, S = mask.shape[-2:] if mask.ndim > 1 else (0, 0)
    if not np.array_equal(hidden(mask, true_hides), np.broadcast_to(meaning.causal(L, S), mask.shape)):
        return None
    return _as_given(np.arange(S) > np.arange(L)[:, None] + S - L, mask, true_hides)


def _causal(mask, call, true_hides):
    return None if mask.ndim < 2 else _as_given(meaning.causal(*mask.shape[-2:]), mask, true_hides)


def _causal_too(mask, call, true_hides):
    if mask.ndim < 2:
        return None
    hidden = np.broadcast_to(meaning.causal(*mask.shape[-2:]), mask.shape)
    return np.where(hidden, true_hides if mask.dtype == bool else -np.inf, mask)


def _of_neighbour(mask, call, true_hides, sizes):
    """The mask with its slices moved by one. sizes: (samples, heads, 1 to move samples and 0 to move heads)."""
    samples, heads, moves_samples = sizes
    if mask.ndim < 3 or mask.shape[0] != samples * heads:
        return None
    slices = mask.reshape(samples, heads, *mask.shape[1:])
    return np.roll(slices, 1, axis=0 if moves_samples else 1).reshape(mask.shape)


def _of_another_head(mask, call, true_hides):
    if isinstance(call.case, ScaledDotProduct):
        return np.roll(mask, 1, axis=-3) if mask.ndim > 2 and mask.shape[-3] > 1 else None
    return _of_neighbour(mask, call, true_hides, (call.case.N, call.case.num_heads, False))


def _of_another_sample(mask, call, true_hides):
    if isinstance(call.case, ScaledDotProduct):
        return np.roll(mask, 1, axis=0) if mask.ndim > 3 and mask.shape[0] > 1 else None
    if mask.ndim == 2 and mask.shape[0] == call.case.N > 1:
        return np.roll(mask, 1, axis=0)
    return _of_neighbour(mask, call, true_hides, (call.case.N, call.case.num_heads, True))


def _of_the_first(mask, call, true_hides):
    if mask.ndim < 3:
        return None
    return np.broadcast_to(mask[:1], mask.shape)


def _of_the_first_sample(mask, call, true_hides):
    return np.broadcast_to(mask[:1], mask.shape) if mask.ndim == 2 and mask.shape[0] > 1 else None


def _in_the_first_sample_alone(mask, call, true_hides):
    if mask.ndim != 2 or mask.shape[0] < 2:
        return None
    return np.concatenate([mask[:1], np.zeros_like(mask[1:])])


def _heads_before_samples(mask, call, true_hides):
    """Slices counted by head first: slice h * N + n is read for sample n and head h."""
    case = call.case
    if not case.has_parameters or mask.ndim < 3 or mask.shape[0] != case.N * case.num_heads:
        return None
    slices = mask.reshape(case.num_heads, case.N, *mask.shape[1:])
    return np.swapaxes(slices, 0, 1).reshape(mask.shape)


def _hides_all(mask, call, true_hides):
    return _as_given(np.ones(mask.shape, bool), mask, true_hides)


# {name: (words, (mask, call, true_hides) -> another mask, or None if the behaviour has no meaning for it, kinds)}
# kinds: "attn", "padding" or both.
MISREADINGS: dict[str, tuple[str, Callable, str]] = {
    "ignored": ("is ignored", lambda mask, call, true_hides: None, "attn padding"),
    "inverted": ("is inverted", _inverted, "attn padding"),
    "read_as_bool": ("is read as a bool mask: every number other than 0 hides", _read_as_bool, "attn padding"),
    "read_as_keeping": ("is read as a bool mask: every number other than 0 keeps", _read_as_keeping, "attn padding"),
    "added": ("is added as 0 and 1", _added, "attn padding"),
    "without_numbers": ("loses its finite numbers", _without_numbers, "attn padding"),
    "negated": ("is subtracted where it is finite", _negated, "attn padding"),
    "transposed": ("is transposed", _transposed, "attn"),
    "of_another_head": ("is that of another head", _of_another_head, "attn"),
    "of_another_sample": ("is that of another sample", _of_another_sample, "attn padding"),
    "of_the_first": ("is that of the first slice everywhere", _of_the_first, "attn"),
    "of_the_first_sample": ("is that of the first sample everywhere", _of_the_first_sample, "padding"),
    "in_the_first_sample_alone": ("counts in the first sample alone", _in_the_first_sample_alone, "padding"),
    "heads_before_samples": ("is read with heads before samples", _heads_before_samples, "attn"),
    "lower_right": ("is aligned at the last query and the last key", _lower_right, "attn"),
    "reversed": ("is aligned at the other end", _reversed, "padding"),
    "causal": ("is replaced by a causal mask", _causal, "attn"),
    "causal_too": ("hides the future, too", _causal_too, "attn"),
    "hides_all": ("hides every key", _hides_all, "attn padding"),
}
