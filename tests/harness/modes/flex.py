"""Modes of torch.nn.attention.flex_attention."""

from .mode import FLEX, Mode

_DEBUGGED = """\
import torch.nn.attention.flex_attention as flex
from unittest.mock import patch

def debugged(*given, **options):  # without torch.compile, which flex_attention calls by itself
    with patch.object(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True):
        return module(*given, **options)
"""

# The only quick calls: flex_attention compiles itself anew for each new function, with a backend that changes nothing.
FLEX_DEBUGGED = Mode(
    "flex_debugged",
    _DEBUGGED,
    "debugged",
    calls=(FLEX,),
    differentiates=False,
    everywhere=False,
    since="2.9",
    times=5,  # the only cheap way to call the function: 12 ms, where a compilation takes 100 ms
)
