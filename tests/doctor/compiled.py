"""What the doctor knows of torch.compile: whose calls it can judge, and whose it can only count."""

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

_FLEX = "torch.nn.attention.flex_attention"

UNSEEN = (
    "calls of compiled functions and models: attention in them is seen in part, or not at all; with"
    " TORCHDYNAMO_DISABLE=1 in the environment they run uncompiled, and all of it is compared"
)


def flex_module() -> ModuleType | None:
    """The module of flex_attention, which torch does not import by itself; None before 2.5."""
    try:
        return importlib.import_module(_FLEX)
    except ImportError:
        return None


def has_no_attention(model: Any) -> bool:
    """True for functions that the module of flex_attention compiles by itself, such as create_block_mask."""
    return getattr(model, "__module__", "") == _FLEX


def given_options(compile: Callable, options: dict[str, Any]) -> dict[str, Any]:
    """The options of torch.compile that are not its defaults."""
    parameters = inspect.signature(compile).parameters
    return {name: value for name, value in options.items() if value != parameters[name].default}


def is_fused(options: dict[str, Any] | None) -> bool:
    """True if inductor makes the kernel of a flex_attention. options: of torch.compile; None if it is not compiled."""
    return options is not None and options.get("backend", "inductor") == "inductor"
