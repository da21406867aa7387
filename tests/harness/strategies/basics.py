"""Sizes, dtypes and layouts that all cases share, and draws from tables.

Each table begins with its simplest value, the one that a failing case shrinks to: no mask, length 1, float64, no
autograd, contiguous memory. A draw takes longer than a call, so choices that belong together are one draw.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD, MultiHead, Transformer
from ..cases.masks import LAYOUTS
from ..execution.release import Release

# Most sequences have 1 to 5 positions; some end near the edge of a kernel's tile or vector; a few are empty.
EDGES = (6, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
LENGTHS = (*range(1, 6), *(2, 3, 4, 5) * 10, *EDGES, 0)
SOURCES = (*LENGTHS, 257)  # the native layers compute in blocks, too
LENGTHS_OF_NATIVE_PATHS = (*SOURCES, 1025)  # native paths take another softmax beyond 1,024 keys
NEARLY_CAUSAL = (*range(1, 6), *(17, 33, 65, 129) * 6)  # begins like LENGTHS, to shrink alike
SAMPLES = (*(1, 2, 3) * 12, 4, 5, 6, 9, 17, 33, 0)
KEYS = (*LENGTHS, 511, 512, *(513, 1025) * 3)  # the fused kernels take keys in blocks of up to 512
QUERIES = (*LENGTHS, 193, 769)  # the fused kernels take queries in blocks of 32, 64 or 256
LONG = ((520, 520), (769, 769), (520, 1025))  # rare, and with one head: the causal diagonal crosses blocks

WITHOUT_GRADIENT = ("no_grad", "inference_mode", "frozen")
SEEDS = st.integers(0, 2**16 - 1)
evenly = cache(st.sampled_from)  # cached: making a strategy takes longer than drawing from it


def one_of(draw: st.DrawFn, *values: Hashable) -> Any:
    """One of the values; a repeated value is drawn more often. Shrinks to the first."""
    return draw(evenly(values))


def mixed(*strategies: st.SearchStrategy) -> st.SearchStrategy:
    """A strategy that draws from one of these; a repeated one is chosen more often. Shrinks to the first.

    st.one_of does not fit: it drops repetitions, and flattens mixtures of mixtures.
    """
    return evenly(range(len(strategies))).flatmap(strategies.__getitem__)


MEMORY_LAYOUTS = (*["contiguous"] * 8, *LAYOUTS)


def common(draw: st.DrawFn, release: Release, autograd: Sequence[str] = AUTOGRAD) -> dict[str, Any]:
    """The fields that every case has: dtype, seed, autograd, layout, garbage."""
    # a GPU's fused kernels take no float64
    dtypes = release.dtypes if release.device_type == "cpu" else (*release.dtypes, *release.dtypes[1:] * 2)
    dtype, layout = draw(evenly(tuple(product(dtypes, MEMORY_LAYOUTS))))
    autograd, garbage = draw(evenly(tuple(product(autograd, (False, False, True)))))
    return {"dtype": dtype, "seed": draw(SEEDS), "autograd": autograd, "layout": layout, "garbage": garbage}


def lengths(draw: st.DrawFn, of_queries: Sequence[int] = LENGTHS) -> tuple[int, int]:
    """(L, S): the lengths of queries and keys, equal half of the time. of_queries: a table of L.

    One query in a fifth of the others, as where a model generates step by step.
    """
    relation = one_of(draw, *["equal"] * 10, *["other"] * 8, *["one query"] * 2)
    queries = draw(evenly(of_queries)) if relation != "one query" else 1
    if relation == "equal" and queries in LENGTHS:
        return queries, queries
    return queries, draw(evenly(KEYS if queries <= 5 else LENGTHS))


def variations(draw: st.DrawFn, *options: dict[str, Any], rarely: bool = False) -> dict[str, Any]:
    """The fields of some options, each a dict of fields, in one dict. Shrinks to empty.

    A third of the draws has half of all options, since some code runs only where three or more meet; the others none
    to four. rarely: mostly none to two, since many options close a fast path.
    """
    chosen: dict[str, Any] = {}
    for place in draw(_places(len(options), rarely)):
        chosen |= options[place]
    return chosen


_SIZES = (0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, *[None] * 6)  # of the options taken; None: half of all
_SIZES_IF_RARE = (*[0] * 9, 1, 1, 1, 2, 2, 2, 2, 3, 4, None)


@cache
def _places(number, rarely):
    """A strategy for the places of the options to take, of so many: a random table, the fewest options first."""
    rng = Random(number)
    sizes = _SIZES_IF_RARE if rarely else _SIZES
    taken = [min(number // 2 if size is None else size, number) for size in sizes] * 256
    table = [tuple(sorted(rng.sample(range(number), size))) for size in taken]
    return evenly(tuple(sorted(sorted(table), key=len)))


def heads(draw: st.DrawFn, even: bool, smallest: int = 1) -> dict[str, Any]:
    """num_heads and head_dim, with a product of at least `smallest`.

    even: nearly all numbers of heads are even, which the fast path requires.
    """
    shapes = [(h, d) for h in ((2, 4) if even else (1, 2, 3, 4)) for d in (1, 2, 3, 4, 8) if h * d >= smallest]
    shapes += [(3, 2)] * even
    shapes += [(2, 17), (2, 32), (2, 33), (6, 1), (8, 2), (12, 1), (18, 1)]
    shapes += [] if even else [(5, 2), (7, 1), (1, 65)]
    shapes += [(2, 64), (2, 65)] if smallest == 1 else []  # a stack of so many features is slow
    num_heads, head_dim = draw(evenly(tuple(shapes)))
    return {"num_heads": num_heads, "head_dim": head_dim}


DROPOUTS: list[dict[str, Any]] = [{"training": True, "dropout": p} for p in (0.5, 0.1)]

Module = TypeVar("Module", MultiHead, Transformer)


def small_if_long(case: Module) -> Module:
    """The case with one sample and two heads if it has more than 1,024 queries: more would take seconds.

    With two samples in place of many if its sequences are longer than 17.
    """
    if case.N > 17 < max(case.lengths):
        case = replace(case, N=2)
    queries = case.number_of_queries(case.blocks[-1])
    return replace(case, N=1, num_heads=2, head_dim=2) if queries > 1024 else case


def coincidences(case: MultiHead | Transformer, length: str, equal_lengths: dict[str, int]) -> list[dict[str, Any]]:
    """Options that make unrelated sizes equal, to show code that takes one for the other.

    length: the name of a length, which N may equal. equal_lengths: the option that makes lengths equal num_heads.
    """
    samples = getattr(case, length)
    return [{"N": case.num_heads}, equal_lengths, *[{"N": samples}] * (samples <= 9)]


def without_contradictions(chosen: dict[str, Any], release: Release) -> dict[str, Any]:
    """The chosen fields without contradictions; `chosen` itself is changed.

    An unbatched call has one sample. Dropout in training requires that the release shows the dropped elements. Static
    keys exclude add_bias_kv.
    """
    if not chosen.get("batched", True):
        chosen["N"] = 1
    if chosen.get("training") and not release.shows_dropout:
        chosen.pop("dropout", None)
    if chosen.get("static"):
        chosen.pop("add_bias_kv", None)
    return chosen
