"""Observes if inductor has rewritten attention to scaled_dot_product_attention, by the counters that torch keeps."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakKeyDictionary

from ..cases.case import Case
from ..modes.written import gives_other_heads
from ..path_names import SDPA_MATH

_rewritten: WeakKeyDictionary[Callable, bool] = WeakKeyDictionary()  # {artifact of a mode: its graphs are rewritten}


def number() -> int:
    """The number of attentions that inductor has rewritten in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["inductor"]["fuse_attention"] if dynamo else 0


def is_rewritten(call: partial, before: int) -> bool:
    """True if inductor has rewritten attention in the last call of an artifact, or in the call that compiled it.

    call: a partial of runner.py whose last argument is the artifact. before: `number` before the call.
    """
    *_, artifact = call.args
    if number() > before or artifact not in _rewritten:
        _rewritten[artifact] = number() > before
    return _rewritten[artifact]


def served(case: Case, by_eager: Sequence[str]) -> Sequence[str]:
    """The paths of rewritten attention. by_eager: those of the eager call of scaled_dot_product_attention.

    Fused kernels take as many heads of keys as of queries.
    """
    return [SDPA_MATH] if gives_other_heads(case) else by_eager
