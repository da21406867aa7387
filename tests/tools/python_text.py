"""Python source in the format of ruff: statements that can be broken into lines, and numbers in few digits.

A statement is a string, a Bracketed or a Suite.
"""

import ast
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from tests.harness.cases.dtypes import PRECISIONS

LOWEST = {
    float(precision.min): dtype for dtype, precision in PRECISIONS.items()
}  # a script writes these numbers as `float32_min` etc.

WIDTH = 120
_LONG = 40  # if a list has more rows than this, several rows share a line


@dataclass(frozen=True)
class Bracketed:
    """An expression or statement that ends in a bracket: a call, a list, a dict."""

    head: str  # up to and including the opening bracket
    items: tuple = ()  # statements
    tail: str = ")"  # the closing bracket

    def __str__(self):
        return self.head + ", ".join(map(str, self.items)) + self.tail


@dataclass(frozen=True)
class Suite:
    """Indented statements under a line that ends in a colon."""

    head: str  # ends in a colon
    statements: tuple


Statement = str | Bracketed | Suite


def rendered(statement: Statement, width: int = WIDTH) -> list[str]:
    """The lines of a statement, each of at most `width` characters if possible.

    Unlike ruff, a list of numbers has as many numbers in a line as fit.
    """
    if isinstance(statement, Suite):
        return [statement.head, *_indented(statement.statements, width)]
    if isinstance(statement, str) or len(str(statement)) <= width:
        return [str(statement)]
    body = ", ".join(map(str, statement.items))
    if statement.tail == ")" and len(body) <= width - 4:
        lines = [f"    {body}"]
    elif statement.tail == "]" and (_is_flat(statement) or len(statement.items) > _LONG):
        lines = [f"    {line}" for line in wrap(f"{body},", width - 4)]
    else:
        lines = _indented(statement.items, width - 1, ",")
    return [statement.head, *lines, statement.tail]


def _is_flat(statement):
    """True if the items are text, as in a list of numbers."""
    return all(isinstance(item, str) for item in statement.items)


def _indented(statements, width, end=""):
    lines = []
    for statement in statements:
        *others, last = rendered(statement, width - 4)
        lines += [f"    {line}" for line in (*others, last + end)]
    return lines


def split_call(text: str) -> Bracketed:
    """The statement of a text that holds one call, or the assignment of a call to names."""
    statement: Any = ast.parse(text.strip()).body[0]
    call, targets = statement.value, [ast.unparse(target) for target in getattr(statement, "targets", ())]
    named = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in call.keywords]
    head = " = ".join([*targets, ast.unparse(call.func)])
    return Bracketed(f"{head}(", (*map(ast.unparse, call.args), *named))


def number(x: Any) -> str:
    """A number or bool of NumPy or Python as text, in the fewest digits that give the same number in its dtype."""
    if isinstance(x, np.bool_):
        return str(bool(x))
    if not np.isfinite(x):
        return str(float(x))
    if float(x) in LOWEST:
        return f"{LOWEST[float(x)]}_min"
    if x == 0 or 1e-3 <= abs(float(x)) < 1e9:
        return np.format_float_positional(x, trim="0")
    return np.format_float_scientific(x, trim="-", exp_digits=1)


def listed(array: np.ndarray, head: str = "") -> Statement:
    """The array as nested lists, behind the text `head`."""
    if array.ndim == 0:
        return head + number(array[()])
    return Bracketed(f"{head}[", tuple(map(listed, array)), "]")
