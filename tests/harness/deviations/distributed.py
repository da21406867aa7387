"""Modules that a wrapper of torch.distributed shares between two processes."""

from ..contents.arrays import is_trained, parameters
from .call import Call


def has_nothing_to_average(call: Call) -> bool:
    """True if DistributedDataParallel wraps a module of which no parameter requires a gradient."""
    case = call.case
    return case.mode == "distributed" and not any(is_trained(case, name) for name in parameters(case))
