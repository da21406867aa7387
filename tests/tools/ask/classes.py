"""Classes of a text that is read and not run (text.py): objects of them, and calls of these."""

import ast
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from .values import Instance, Made, Unknown, both, parts

_DEEPEST, _MOST = 20, 1000  # calls of methods within each other, and in all
_LISTS = ("ModuleList", "Sequential", "list", "tuple")


class ClassReader(ABC):
    """The part of a reader that knows classes."""

    def __init__(self, training: bool):
        self.names: dict[str, Any] = {}  # of variables, as their text
        self.mode, self.training = "eager", training
        self.classes: dict[str, ast.ClassDef] = {}
        self.instances: list[Instance] = []
        self.returned: Any = None  # by the function that is read
        self.depth, self.reads, self.is_called = 0, 0, False

    @abstractmethod
    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""

    @abstractmethod
    def assign(self, target: ast.expr, value: Any) -> None:
        """Give a variable its value."""

    @abstractmethod
    def run(self, statements: Sequence[ast.stmt]) -> None:
        """Read statements."""

    @abstractmethod
    def within(self, contexts: Sequence[ast.expr], statements: Sequence[ast.stmt]) -> None:
        """Read statements in contexts, or below decorators."""

    def of_class(self, node: ast.Call, text: str, given: list[Any], named: dict[str, Any]) -> Any:
        """The value of a call of a class of the text, of an object of it, or of a list of modules; None of others."""
        if text in self.classes:
            return self.instance(text, given, named)
        if text.rpartition(".")[2] in _LISTS:
            return given[0] if len(given) == 1 and isinstance(given[0], list) else given
        called = self.value(node.func)
        if isinstance(called, Instance):
            self.is_called = True
            return self.method(called, "forward", given, named)
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            if isinstance(owner, Instance) and self.function(owner.of, node.func.attr):
                return self.method(owner, node.func.attr, given, named)
        return None

    def define(self, node: ast.ClassDef) -> None:
        """A class. Its methods are read, in case that the text makes no object of it."""
        self.classes[node.name] = node
        instances, is_called = list(self.instances), self.is_called
        self.run(node.body)
        self.instances, self.is_called = instances, is_called

    def instance(self, name: str, given: list[Any], named: dict[str, Any]) -> Instance:
        """An object of a class, made as its __init__ tells."""
        made = Instance(name, {"training": self.training, **named})
        self.instances.append(made)
        for node in self.classes[name].body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                made.attributes.setdefault(target.id, self.value(node.value))
        self.method(made, "__init__", given, named)
        return made

    def call_all(self) -> None:
        """Read the forward methods of the objects, if the text calls none of these."""
        if not self.is_called:
            for instance in list(self.instances):
                self.method(instance, "forward", [], {})

    def function(self, name: str, method: str) -> ast.FunctionDef | None:
        """The definition of a method, in the class or in one that it inherits from; None if there is none."""
        if name not in self.classes:
            return None
        functions = [node for node in self.classes[name].body if isinstance(node, ast.FunctionDef)]
        found = [node for node in functions if node.name == method]
        inherited = (self.function(ast.unparse(base), method) for base in self.classes[name].bases)
        return found[0] if found else next(filter(None, inherited), None)

    def method(self, instance: Instance, name: str, given: list[Any], named: dict[str, Any]) -> Any:
        """The value that a method returns. Its body is read with its arguments."""
        function = self.function(instance.of, name)
        self.reads += 1
        if function is None or self.depth > _DEEPEST or self.reads > _MOST:
            return Unknown(f"{instance.of}.{name}")
        outer, mode = self.names, self.mode
        own = {text: value for text, value in outer.items() if not text.startswith("self.")}
        self.names = {**own, **{f"self.{key}": value for key, value in instance.attributes.items()}, "self": instance}
        self.mode, self.depth, returned = both(mode, instance.mode), self.depth + 1, self.returned
        self.bind(function.args, given, named)
        self.returned = Unknown(f"{instance.of}.{name}()")
        self.within(function.decorator_list, function.body)
        instance.attributes |= {text[5:]: value for text, value in self.names.items() if text.startswith("self.")}
        found, self.returned = self.returned, returned
        self.names, self.mode, self.depth = outer, mode, self.depth - 1
        return found

    def bind(self, arguments: ast.arguments, given: list[Any], named: dict[str, Any]) -> None:
        """Give the arguments of a method the values of a call, or else their defaults."""
        positional = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]][1:]
        defaults = positional[len(positional) - len(arguments.defaults) :]
        values: dict[str, Any] = {name: Unknown(name) for name in positional}
        values |= {name: self.value(default) for name, default in zip(defaults, arguments.defaults, strict=True)}
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            values[argument.arg] = Unknown(argument.arg) if default is None else self.value(default)
        self.names |= values | dict(zip(positional, given, strict=False)) | named

    def loop(self, node: ast.For) -> None:
        """A loop, whose body is read for the first element."""
        elements = self.value(node.iter)
        first = parts(elements, len(elements)) if isinstance(elements, list) else None
        self.assign(node.target, first[0] if first else Unknown(ast.unparse(node.target)))
        self.run([*node.body, *node.orelse])


def modules_of(instance: Instance) -> list[Made]:
    """The modules of an object, and of objects within it."""
    values = [
        part for value in instance.attributes.values() for part in (value if isinstance(value, list) else [value])
    ]
    found = [value for value in values if isinstance(value, Made)]
    return found + [made for value in values if isinstance(value, Instance) for made in modules_of(value)]
