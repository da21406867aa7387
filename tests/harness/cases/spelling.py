"""The text of plain data, as one would type it: without the fields that are at their default."""

from dataclasses import fields
from typing import Any


class Spelled:
    """A dataclass, made with repr=False, that prints in its short form: also where Hypothesis shows an example."""

    def __repr__(self):
        return shortest_repr(self)

    def _repr_pretty_(self, printer, cycle):
        """Hypothesis' own printer spells every field of a dataclass, one a line, unless it finds this method."""
        printer.text(repr(self))


def shortest_repr(value: Any) -> str:
    """The text of a dataclass without the fields that are at their default, in one line."""
    given = {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if getattr(value, field.name) != field.default or field.name == "module"
    }
    return f"{type(value).__name__}({', '.join(f'{name}={item!r}' for name, item in given.items())})"


def quoted(value: object) -> str:
    """The value as Python text, strings in double quotes."""
    return f'"{value}"' if type(value) is str else repr(value)
