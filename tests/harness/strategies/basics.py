"""Sizes, dtypes and layouts that all cases share, and how a value is drawn from a table.

Every choice lists its simplest value first, towards which a failing case shrinks: no mask, length 1, float64,
no autograd, everything contiguous. Drawing costs more than running, so that choices that belong together are one draw.
"""

from dataclasses import replace
from functools import cache
from itertools import combinations, product

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD
from ..cases.masks import LAYOUTS

# A sequence is mostly up to 5 long, sometimes past the boundaries of the kernels' tiles and vectors, rarely 0.
EDGES = (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
LENGTHS = (*range(1, 6), *(2, 3, 4, 5) * 10, *EDGES, 0)
SOURCES = (*LENGTHS, 257)  # the native layers count in blocks, too
LENGTHS_OF_NATIVE_PATHS = (*SOURCES, 1025)  # and take another softmax beyond 1,024 keys
NEARLY_CAUSAL = (*range(1, 6), *(17, 33, 65, 129) * 6)  # begins as the others do, to shrink in whichever is drawn from
SAMPLES = (*(1, 2, 3) * 12, 5, 9, 0)
KEYS = (*LENGTHS, 511, 512, *(513, 1025) * 3)  # the fused kernels take keys in blocks of up to 512
QUERIES = (*LENGTHS, 193, 769)  # and queries in blocks of 32, then 64, then 256
LONG = ((520, 520), (769, 769), (520, 1025))  # rarely both, of one head: a causal diagonal crosses blocks there

WITHOUT_GRADIENT = ("no_grad", "inference_mode", "frozen")
_SEEDS = st.integers(0, 2**16 - 1)
evenly = cache(st.sampled_from)  # to make a strategy costs more than to draw from it


def one_of(draw, *values):
    """One of the values, a repeated one more often; shrinks to the first."""
    return draw(evenly(values))


def mixed(*strategies):
    """One of the strategies, a repeated one more often: st.one_of takes each once, and apart what was mixed before."""
    return evenly(range(len(strategies))).flatmap(strategies.__getitem__)


MEMORY_LAYOUTS = (*["contiguous"] * 8, *LAYOUTS)


def common(draw, release, autograd=AUTOGRAD):
    """The fields of every case."""
    # a GPU's own kernels take no float64
    dtypes = release.dtypes if release.device_type == "cpu" else (*release.dtypes, *release.dtypes[1:] * 2)
    dtype, layout = draw(evenly(tuple(product(dtypes, MEMORY_LAYOUTS))))
    autograd, garbage = draw(evenly(tuple(product(autograd, (False, False, True)))))
    return {"dtype": dtype, "seed": draw(_SEEDS), "autograd": autograd, "layout": layout, "garbage": garbage}


def lengths(draw, of_queries=LENGTHS):
    """Of queries and of keys, equal half the time."""
    queries = draw(evenly(of_queries))
    if one_of(draw, True, False) and queries in LENGTHS:
        return queries, queries
    return queries, draw(evenly(KEYS if queries <= 5 else LENGTHS))


def variations(draw, *options):
    """Up to two of the options, each a dict of fields, as one dict; often none. Shrinks to none."""
    return dict(draw(_variations(tuple(tuple(option.items()) for option in options))))


@cache
def _variations(options):
    pairs = [a + b for a, b in combinations(options, 2)]
    return evenly((*[()] * len(pairs), *options, *pairs))


def heads(draw, even, smallest=1):
    """num_heads and head_dim, whose product is at least `smallest`: a norm over few features is ill-conditioned."""
    shapes = [(h, d) for h in ((2, 4) if even else (1, 2, 3, 4)) for d in (1, 2, 3, 4, 8) if h * d >= smallest]
    shapes += [(2, 17), (2, 33), (6, 1), (8, 2), (18, 1)] + ([] if even else [(5, 2), (1, 65)])
    num_heads, head_dim = draw(evenly(tuple(shapes)))
    return {"num_heads": num_heads, "head_dim": head_dim}


DROPOUTS = [{"training": True, "dropout": p} for p in (0.5, 0.1)]


def small_if_long(case):
    """The case with one sample and two heads, if it attends from so many positions that more would take seconds."""
    queries = case.T if getattr(case, "has_decoder", False) else getattr(case, "L", case.S)
    return replace(case, N=1, num_heads=2, head_dim=2) if queries > 1024 else case


def coincidences(case, length, equal_lengths):
    """Options that make sizes equal which have nothing to do with each other: one may be taken for the other."""
    samples = getattr(case, length)
    return [{"N": case.num_heads}, equal_lengths, *[{"N": samples}] * (samples <= 9)]


def without_contradictions(chosen, release):
    """One sample is no batch; what is dropped must be seen; static keys exclude appended ones."""
    if not chosen.get("batched", True):
        chosen["N"] = 1
    if chosen.get("training") and not release.shows_dropout:
        chosen.pop("dropout", None)
    if chosen.get("static"):
        chosen.pop("add_bias_kv", None)
    return chosen
