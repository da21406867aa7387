"""The text of the ledgers: edits of the ranges of entries, and the files that hold proposed entries and reaches."""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/harness/deviations", "tests/harness/wrong_masks")
OF_CASES = "tests/harness/deviations/proposed.py"
OF_ROWS = "tests/harness/wrong_masks/proposed.py"

# The lines that import the names of proposed entries, in order: (line without names, names), or (line, the module).
_IMPORTS = {
    OF_CASES: (
        ("..cases.case", ("MultiHead", "ScaledDotProduct", "SquareSubsequentMask", "Transformer", "masks_of")),
        ("..cases.masks", ("Mask", "Merged", "OverKeys", "SeeingFirst")),
        (".", ("behaviours", "views")),
        (".entry", ("Deviation",)),
        (".facts", ("has_empty_row", "does_more_than_hide")),
        (".reach", ("Reach",)),
    ),
    OF_ROWS: (
        (".", ("effects", "simple_outcomes")),
        (".entry", ("Reach", "WrongMaskDeviation")),
        (".table", ("ACCEPTS", "UNHELPFUL")),
    ),
}
_KIND = {OF_CASES: "Deviation", OF_ROWS: "WrongMaskDeviation"}


class Texts:
    """The files of the ledgers, as they are and as they are proposed."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        paths = sorted(path for folder in FOLDERS for path in (root / folder).glob("*.py"))
        self.old = {path.relative_to(root).as_posix(): path.read_text() for path in paths}
        self.new = dict(self.old)

    def change_range(self, id: str, change: Callable[[str], str]) -> bool:
        """Replace the range of the entry by change(range). Returns False if the range is not written in the entry."""
        for path, text in self.new.items():
            node = _argument(text, id, "affects")
            if node is not None:
                if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                    return False
                self.new[path] = _replaced(text, node, f'"{change(node.value)}"')
                return True
        return False

    def remove(self, ids: Iterable[str]) -> None:
        """Remove the entries of these ids."""
        for id in ids:
            for path, text in self.new.items():
                if (entry := _entry(text, id)) is not None:
                    self.new[path] = _replaced(text, entry, "", with_comma=True)

    def add(self, path: str, entries: Iterable[str] = (), reaches: Iterable[str] = ()) -> None:
        """Add the code of entries and reaches to a file of proposed ones: OF_CASES or OF_ROWS."""
        text = self.new[path]
        found = {"ENTRIES": _elements(text, "ENTRIES"), "REACHES": _elements(text, "REACHES")}
        all_entries, all_reaches = [*found["ENTRIES"], *entries], [*found["REACHES"], *reaches]
        docstring = text[: text.index('"""', 3) + 3]
        body = "".join(
            f"\n\n{name}: tuple[{kind}, ...] = {_tuple(codes)}"
            for name, kind, codes in (("ENTRIES", _KIND[path], all_entries), ("REACHES", "Reach", all_reaches))
        )
        lines = [f"from {module} import {', '.join(names)}" for module, names in _named(path, body)]
        self.new[path] = (
            "\n".join([docstring, "", *lines]) + body.replace("\n\n", "\n", 1).replace("\n", "\n\n", 1) + "\n"
        )

    def patch(self) -> str:
        """The changes as a unified diff for `git apply`; empty if nothing changes."""
        return "".join(line for path in self.old for line in self._diff(path))

    def _diff(self, path):
        lines = [text.splitlines(keepends=True) for text in (self.old[path], self.new[path])]
        return difflib.unified_diff(*lines, f"a/{path}", f"b/{path}")

    def write(self) -> None:
        """Write the files that are changed."""
        for path, text in self.new.items():
            if text != self.old[path]:
                (self.root / path).write_text(text)


def _named(path, body) -> Iterator[tuple[str, list[str]]]:
    """(module, its names that the text uses)"""
    for module, names in _IMPORTS[path]:
        used = [name for name in names if re.search(rf"\b{name}\b", body)]
        if used:
            yield module, used


def _tuple(codes):
    if not codes:
        return "()"
    return "(\n" + "".join(f"{_indented(code)},\n" for code in codes) + ")"


def _indented(code):
    return "\n".join(f"    {line}" if line else line for line in code.splitlines())


def _elements(text, name):
    """The code of each element of the tuple that is assigned to the name."""
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.AnnAssign)
            and getattr(node.target, "id", "") == name
            and isinstance(node.value, ast.Tuple)
        ):
            return [_dedented(ast.get_source_segment(text, element)) for element in node.value.elts]
    return []


def _dedented(segment):
    """A segment of an indented element, whose first line begins with the element."""
    return "\n".join(line.removeprefix("    ") for line in segment.splitlines())


def _entry(text, id):
    """The call that makes the entry of this id; None if the text has none."""
    if f'"{id}"' not in text:
        return None
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _KIND.values():
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if getattr(given.get("id"), "value", None) == id:
                return node
    return None


def _argument(text, id, name):
    """The argument of the entry of this id; None if the text does not make it."""
    entry = _entry(text, id)
    return next((its.value for its in entry.keywords if its.arg == name), None) if entry else None


def _replaced(text, node, by, with_comma=False):
    lines = text.splitlines(keepends=True)

    def offset(line, column):
        return sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())

    start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
    if with_comma and text[end : end + 1] == ",":
        end += 1
    return text[:start] + by + text[end:]
