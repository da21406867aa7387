"""The place of a call: the path of its module in the model, or the line of code. Read from the running frames."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Place:
    """Where a call is made."""

    model: str = ""  # the class of the outermost module that is running, with a number from the second instance on
    path: str = ""  # the path of the module in that model; empty for the model itself
    line: str = ""  # "file.py:12 in function", of the caller; empty for modules

    def __str__(self) -> str:
        where = ".".join(filter(None, (self.model, self.path)))
        return f"{where} ({self.line})" if where and self.line else where or self.line


class Places:
    """Finds the places of calls; remembers the names of modules."""

    def __init__(self) -> None:
        self._labels: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._names: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()
        self._instances: Counter[str] = Counter()

    def of_call(self, module: nn.Module | None) -> tuple[Place, nn.Module | None]:
        """(the place of the call that is being made, the module itself or the one whose code calls).

        module: the module that is called; None for a function.
        """
        running = list(_running_modules())
        if module is not None:
            running = [module, *running]
        line = "" if module is not None else _line()
        if not running:
            return Place(line=line), None
        owner = running[0]
        for root in reversed(running):
            path = self._path(root, owner)
            if path is not None:
                return Place(self._label(root), path, line), owner
        return Place(self._label(owner), "", line), owner

    def _path(self, root, module):
        """The path of a module inside the root; None if it is not inside."""
        names = self._names.get(root)
        if names is None or id(module) not in names:
            names = self._names[root] = {id(part): name for name, part in root.named_modules()}
        return names.get(id(module))

    def _label(self, root):
        if root not in self._labels:
            name = type(root).__name__
            self._instances[name] += 1
            number = self._instances[name]
            self._labels[root] = name if number == 1 else f"{name}#{number}"
        return self._labels[root]


def _frames():
    """The running frames, the innermost first, without those of this package."""
    frame = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_HERE):
            yield frame
        frame = frame.f_back


def _running_modules() -> Iterator[nn.Module]:
    """The modules whose methods are running, the innermost first."""
    last = None
    for frame in _frames():
        if frame.f_code.co_varnames[:1] != ("self",):
            continue
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and module is not last:
            last = module
            yield module


def _line():
    """The line of the innermost frame outside of torch."""
    for frame in _frames():
        if not frame.f_code.co_filename.startswith(_TORCH):
            path = Path(frame.f_code.co_filename)
            name = "/".join(path.parts[-2:]) if "site-packages" in path.parts else path.name
            function = frame.f_code.co_name
            return f"{name}:{frame.f_lineno}" + ("" if function == "<module>" else f" in {function}")
    return ""
