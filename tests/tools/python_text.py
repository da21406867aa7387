"""Python source as ruff formats it: statements that know how to break, and numbers in few digits."""

import ast
from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from tests.harness.cases.dtypes import PRECISIONS

LOWEST = {float(precision.min): dtype for dtype, precision in PRECISIONS.items()}  # written as `float32_min`

WIDTH = 120
_LONG = 40  # rows: from then on they share lines, too


@dataclass(frozen=True)
class Bracketed:
    """An expression or statement that ends in a bracket: a call, a list, a dict."""

    head: str
    items: tuple = ()
    tail: str = ")"

    def __str__(self):
        return self.head + ", ".join(map(str, self.items)) + self.tail


@dataclass(frozen=True)
class Suite:
    """Indented statements under a line that ends in a colon."""

    head: str
    statements: tuple


def rendered(statement, width=WIDTH):
    """The lines of a statement. Of a list of numbers as many stand in a line as fit, other than ruff has it."""
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
    return all(isinstance(item, str) for item in statement.items)


def _indented(statements, width, end=""):
    lines = []
    for statement in statements:
        *others, last = rendered(statement, width - 4)
        lines += [f"    {line}" for line in (*others, last + end)]
    return lines


def split_call(text):
    """A call that is text, or a name that it is assigned to."""
    statement = ast.parse(text.strip()).body[0]
    call, targets = statement.value, [ast.unparse(target) for target in getattr(statement, "targets", ())]
    named = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in call.keywords]
    head = " = ".join([*targets, ast.unparse(call.func)])
    return Bracketed(f"{head}(", (*map(ast.unparse, call.args), *named))


def number(x):
    """The fewest digits from which the same number is read again."""
    if isinstance(x, np.bool_):
        return str(bool(x))
    if not np.isfinite(x):
        return str(float(x))
    if float(x) in LOWEST:
        return f"{LOWEST[float(x)]}_min"
    if x == 0 or 1e-3 <= abs(float(x)) < 1e9:
        return np.format_float_positional(x, trim="0")
    return np.format_float_scientific(x, trim="-", exp_digits=1)


def listed(array, head=""):
    """The array as lists of lists."""
    if array.ndim == 0:
        return head + number(array[()])
    return Bracketed(f"{head}[", tuple(map(listed, array)), "]")


def quoted(value):
    """A value as it is typed."""
    return f'"{value}"' if type(value) is str else repr(value)
