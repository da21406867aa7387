"""The public functions of the suite are annotated and described. `python -m tox -e lint` checks the annotations."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("reference", "tests/harness", "tests/doctor", "tests/tools")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def lacks(text: str) -> Iterator[str]:
    """What the public functions, methods and classes of a module lack: "name: what" for each."""
    return _lacks(ast.parse(text), "")


def _lacks(node, owner):
    """What is lacking inside a module or class; `owner` ends in a dot, or is empty. No function is looked into."""
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, (*_FUNCTIONS, ast.ClassDef)):
            yield from _lacks(part, owner)  # an `if`, for example
        elif not part.name.startswith("_"):
            name = f"{owner}{part.name}"
            if ast.get_docstring(part) is None:
                yield f"{name}: no docstring"
            if isinstance(part, ast.ClassDef):
                yield from _lacks(part, f"{name}.")
            else:
                yield from (f"{name}: no annotation of {what}" for what in _unannotated(part, is_method=bool(owner)))


def _unannotated(function, is_method):
    """The arguments without annotations, by name, and "the result"."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args]
    if is_method and arguments and arguments[0].arg in ("self", "cls"):
        del arguments[0]
    arguments += [*given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    names = [argument.arg for argument in arguments if argument.annotation is None]
    return names + ["the result"] * (function.returns is None)


def test_public_functions_are_annotated_and_described():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    assert paths
    found = [f"{names[path]}: {what}" for path in paths for what in lacks(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_each_lack_is_told():
    text = '''
def public(a, /, b: int, *c, d, **e):
    def nested(x): ...

class Public:
    """A class."""

    if True:
        def method(self) -> None: ...

    @classmethod
    def made(cls, one) -> None:
        """A method."""

    def _private(self, one): ...

class _Private:
    def method(self): ...
'''
    assert list(lacks(text)) == [
        "public: no docstring",
        *(f"public: no annotation of {what}" for what in ("a", "d", "c", "e", "the result")),
        "Public.method: no docstring",
        "Public.made: no annotation of one",
    ]
