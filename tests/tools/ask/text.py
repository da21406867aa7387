"""A call as people write it, read and not run: which module it is made by, what it is given, and in which context.

Masks and inputs become tensors by a list of torch's functions that only compute. Modules are noted, never made.
Everything else is Unknown, which matters only where a mask depends on it.
"""

import ast
import operator
from dataclasses import dataclass, field, replace
from functools import cache

import torch

from tests.harness.command_line import BadInput
from tests.harness.modes.modes import BY_ID

from .classes import ClassReader, modules_of
from .flex import MAKERS, given_mask_mod, made_blocks, sliced
from .parts import changed, mode_of_hooked, mode_of_replaced, subclass
from .signatures import CONSTRUCTORS, FUNCTIONS, bound
from .values import (
    Blocks,
    Function,
    Instance,
    Made,
    Named,
    Unknown,
    both,
    computed,
    filled,
    is_unknown,
    on_cpu,
    parts,
    square,
    text_of,
)

_LONGEST = 2_000_000  # characters of a text

_FACTORIES = "tensor zeros ones full empty rand randn arange eye zeros_like ones_like full_like randn_like rand_like"
_FUNCTIONS = f"{_FACTORIES} triu tril where logical_not logical_and logical_or cat stack isnan finfo"
_METHODS = """
    bool float double half bfloat16 long int to type masked_fill masked_fill_ fill_ zero_ expand expand_as repeat
    repeat_interleave unsqueeze squeeze view view_as reshape transpose permute t contiguous clone detach logical_not
    triu tril eq ne lt le gt ge flatten cumsum sum any all size dim requires_grad_ new_zeros new_ones new_full type_as
"""
_SIZED = ("ones", "zeros", "full", "empty")  # that take the sizes of a tensor first
_KEEPING = ("to", "bool", "contiguous", "clone", "detach", "cpu")  # methods after which a mask is of the same kind
_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.BitXor: operator.xor, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.inv,
    ast.Not: operator.not_,
}  # fmt: skip
_CONSTANTS = {"inf": float("inf"), "nan": float("nan"), "True": True, "False": False, "None": None, "...": ...}
_NAMES = _CONSTANTS | {name: name for name in FUNCTIONS}
# {type: attributes that are read}
_ATTRIBUTES = {torch.Tensor: ("shape", "T", "mT", "dtype", "ndim", "device"), torch.finfo: ("min", "max")}
_CONTEXTS = ("no_grad", "inference_mode", "enable_grad")


@dataclass(frozen=True)
class Asked:
    """A call of a module (made), or of a function. given: its arguments by name. mode: an id of modes.py."""

    kind: str
    given: dict = field(default_factory=dict)
    made: Made | None = None
    context: str = ""
    mode: str = "eager"
    fast_path: bool = True
    calls: int = 1  # of attentions in the text, of which this is the last


def read(text: str, length: int = 5, training: bool = True) -> Asked:
    """The last call of an attention in the text; of a constructor alone, the call of what it makes. Or BadInput.

    length: the size of a square tensor whose size the text does not tell. training: self.training, likewise.
    """
    if len(text) > _LONGEST:
        raise BadInput(f"the text has {len(text):,} characters; {_LONGEST:,} are read")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"not Python: {error}") from None
    reader = _Reader(tree, length, training)
    try:
        reader.run(tree.body)
        reader.call_all()
    except RecursionError:
        raise BadInput("the text is nested too deeply") from None
    if reader.asked:
        return replace(reader.asked[-1], calls=len(reader.places))
    if reader.made:
        return reader.ask(reader.made[-1].kind, {}, reader.made[-1])
    known = ", ".join([*CONSTRUCTORS, *FUNCTIONS])
    if "softmax(" in text:
        known += ". Attention written by hand is not modelled; docs/edge-cases.md has it compiled (written-scale-lost)"
    raise BadInput(f"no call of an attention in {text.strip()[:80]!r}; it may be of {known}")


class _Reader(ClassReader, ast.NodeVisitor):
    """Reads statements in order, and those within others. `names` holds the variables by their text.

    A visit of a statement notes its effects; a visit of an expression returns its value.
    """

    def __init__(self, tree, length, training):
        super().__init__(training)
        self.length = length
        self.contexts, self.fast_path = [], True
        self.asked, self.made, self.places, self.functions = [], [], set(), {}
        self.mode = _mode_in(tree)  # one whose statements stand in the text
        self.of_mode = _statements(BY_ID[self.mode])

    def run(self, statements):
        for statement in statements:
            if not self.is_of_mode(statement):
                self.visit(statement)

    def is_of_mode(self, node):
        """True if a statement belongs to the code of the mode that the text has as a whole (_mode_in)."""
        return ast.dump(node) in self.of_mode

    # ---- statements

    def visit_Assign(self, node):
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def visit_AnnAssign(self, node):
        self.assign(node.target, self.value(node.value) if node.value else None)

    def visit_AugAssign(self, node):
        self.assign(node.target, self.value(ast.BinOp(node.target, node.op, node.value)))

    def visit_Expr(self, node):
        self.value(node.value)

    def visit_Return(self, node):
        self.returned = self.value(node.value) if node.value else None

    def visit_With(self, node):
        self.within([item.context_expr for item in node.items], node.body)

    def visit_For(self, node):
        self.loop(node)

    def visit_ClassDef(self, node):
        self.define(node)

    def visit_FunctionDef(self, node):
        self.bind_defaults(node.args)
        self.within(node.decorator_list, node.body)
        self.functions[node.name] = Function(ast.unparse(node))

    def generic_visit(self, node):
        """Any other expression is not known; of any other statement, the statements within it are read."""
        if isinstance(node, ast.expr):
            return text_of(node)
        for part in ("body", "cases", "handlers", "orelse", "finalbody"):
            self.run(getattr(node, part, ()))
        return None

    def bind_defaults(self, arguments):
        """Give the arguments of a function their defaults; without one, an argument keeps what its name stands for."""
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = positional[len(positional) - len(arguments.defaults) :], arguments.defaults
        pairs = [*zip(*defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
        for argument, default in pairs:
            if default is not None and not (isinstance(default, ast.Constant) and default.value is None):
                self.names.setdefault(argument.arg, self.value(default))

    def assign(self, target, value):
        if isinstance(target, ast.Tuple):
            found = parts(value, len(target.elts)) or [Unknown(ast.unparse(part)) for part in target.elts]
            for part, its in zip(target.elts, found, strict=True):
                self.assign(part, its)
        elif isinstance(target, ast.Subscript) and torch.is_tensor(self.value(target.value)):
            tensor, index = self.value(target.value), self.value(target.slice)
            known = not is_unknown((index, value))
            self.names[ast.unparse(target.value)] = computed(filled, tensor, index, value) if known else text_of(target)
        else:
            if isinstance(target, ast.Attribute) and target.attr == "mask_mod":
                blocks = self.value(target.value)
                if isinstance(blocks, Blocks):
                    self.names[ast.unparse(target.value)] = given_mask_mod(blocks, value)
            if isinstance(target, ast.Attribute) and (made := self.owner(target.value)):
                given = self.classes.get(value.of) if isinstance(value, Instance) else None
                changed(made, mode_of_replaced(made, target.attr, value, given))
            self.names[ast.unparse(target)] = value

    def owner(self, node):
        """The module of the text of which this expression is the module itself or a part; None if it is of none."""
        text = ast.unparse(node)
        roots = (value for name, value in self.names.items() if f"{text}.".startswith(f"{name}."))
        return next((value for value in roots if isinstance(value, Made)), None)

    def within(self, contexts, statements):
        """Statements in contexts: autograd, autocast and the choice of a kernel count, others do not."""
        outer, count = self.mode, len(self.contexts)
        for name in map(ast.unparse, contexts):
            self.contexts += [context for context in _CONTEXTS if f"{context}(" in name]
            if mode := _mode_of_context(name):
                self.mode = both(self.mode, mode)
        self.run(statements)
        self.mode, self.contexts = outer, self.contexts[:count]

    # ---- expressions

    def value(self, node):
        """The value of an expression; Unknown where the text does not tell it."""
        text = ast.unparse(node)
        return self.names[text] if text in self.names else self.visit(node)

    def visit_Constant(self, node):
        return node.value

    def visit_Tuple(self, node):
        return tuple(map(self.value, node.elts))

    def visit_List(self, node):
        return list(map(self.value, node.elts))

    def visit_ListComp(self, node):
        return [self.value(node.elt)]  # each element is made alike

    def visit_GeneratorExp(self, node):
        return [self.value(node.elt)]

    def visit_IfExp(self, node):
        test = self.value(node.test)
        return text_of(node) if is_unknown(test) else self.value(node.body if test else node.orelse)

    def visit_Name(self, node):
        return _NAMES.get(node.id, self.functions.get(node.id, Unknown(node.id)))

    def visit_Lambda(self, node):
        return Function(ast.unparse(node))

    def visit_Attribute(self, node):
        text, name = ast.unparse(node), node.attr
        if name in _NAMES:
            return _NAMES[name]
        if text == "self.training":
            return self.training
        if text.startswith("torch.") and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        owner = self.value(node.value)
        if isinstance(owner, Instance):
            return owner.attributes.get(name, Unknown(text))
        is_read = any(isinstance(owner, kind) and name in names for kind, names in _ATTRIBUTES.items())
        return getattr(owner, name) if is_read else Unknown(text)

    def visit_BinOp(self, node):
        return _operated(node, _OPERATORS.get(type(node.op)), self.value(node.left), self.value(node.right))

    def visit_UnaryOp(self, node):
        return _operated(node, _OPERATORS[type(node.op)], self.value(node.operand))

    def visit_Compare(self, node):
        if len(node.ops) > 1:
            return text_of(node)
        operands = self.value(node.left), self.value(node.comparators[0])
        return _operated(node, _OPERATORS.get(type(node.ops[0])), *operands)

    def visit_Subscript(self, node):
        values, index = self.value(node.value), self.value(node.slice)
        if isinstance(values, Blocks):
            return sliced(values, node.slice)
        is_of_one = isinstance(values, list) and len(values) == 1  # of a comprehension, perhaps
        return values[0] if is_of_one else _operated(node, operator.getitem, values, index)

    def visit_Slice(self, node):
        return _operated(node, slice, *(part and self.value(part) for part in (node.lower, node.upper, node.step)))

    # ---- calls

    def visit_Call(self, node):
        text, given = ast.unparse(node.func), [self.value(argument) for argument in node.args]
        named = {argument.arg: self.value(argument.value) for argument in node.keywords if argument.arg}
        last = text.rpartition(".")[2]
        if last == "generate_square_subsequent_mask":
            return self.square(given, named)
        if last in MAKERS:
            owner = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else None
            return made_blocks(last, owner, given, named)
        if _mode_of_function(text, named) and "flex_attention" in given[:1]:
            return Made("flex_attention", {}, trained="none", mode=_mode_of_function(text, named))
        if (target := self.target(node.func, text)) is not None:
            return self.attend(node, target, given, named)
        if text in self.classes and (its := subclass(self.classes[text])):
            kind, mode = its
            return self.noted(Made(kind, bound(kind, given, named), mode=mode))
        if (found := self.of_class(node, text, given, named)) is not None:
            return found
        if last in CONSTRUCTORS:
            return self.noted(Made(last, bound(last, given, named)))
        if last == "set_fastpath_enabled":
            self.fast_path = bool((*given, *named.values(), True)[0])
        if (found := self.of_module(node, text, given, named)) is not None:
            return found
        return self.computed(node, last, given, named)

    def noted(self, made):
        """The module that the text makes, which is noted."""
        self.made.append(made)
        return made

    def attend(self, node, target, given, named):
        """Note a call of an attention, of a Made or of a function. Its result is not known."""
        if len(named) < len(node.keywords) or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise BadInput(f"{ast.unparse(node)[:80]}: * and ** are not read; write the arguments out")
        self.places.add((node.lineno, node.col_offset))
        made = target if isinstance(target, Made) else None
        kind = made.kind if made else target
        self.asked.append(self.ask(kind, bound(kind, given, named, is_call=True), made))
        return text_of(node)

    def target(self, function, text):
        """The Made, or the name of the function, that is called here; None if neither is."""
        if text == "torch.utils.checkpoint.checkpoint" or text == "checkpoint":
            return None
        mode = BY_ID[self.mode]
        if mode.called != "module" and ast.unparse(ast.parse(mode.called)) == text.strip("()"):
            return self.names.get("module")
        for other in BY_ID.values():
            if not other.called.isidentifier() and ast.unparse(ast.parse(other.called)) == text:
                self.mode = other.id
                return self.names.get("module")
        value = self.value(function)
        return value if isinstance(value, Made) or (isinstance(value, str) and value in FUNCTIONS) else None

    def of_module(self, node, text, given, named):
        """The value of a call that is given a module, or of a method of one; None if the call is about no module."""
        if given and isinstance(given[0], (Instance, Made)):
            return self.passed(given[0], text, given[1:], named)
        if not isinstance(node.func, ast.Attribute):
            return None
        owner, method = self.value(node.func.value), node.func.attr
        if not isinstance(owner, Made) and isinstance(node.func.value, ast.Attribute) and self.owner(node.func.value):
            changed(self.owner(node.func.value), mode_of_hooked(node.func.value.attr, method))
        if isinstance(owner, Made):
            return _after_method(owner, method, given, named)
        if isinstance(owner, Instance):
            return self.after_method(owner, method, given, named, text)
        return self.of_parameters(node, method, given)

    def passed(self, module, function, others, named):
        """What a function makes of a module, as torch.compile does; None if it makes none. others: further arguments.

        A call by checkpoint is a call of the module.
        """
        mode = _mode_of_function(function, named)
        if isinstance(module, Made) and function.endswith("checkpoint"):
            made = replace(module, mode="checkpoint")
            self.asked.append(self.ask(made.kind, bound(made.kind, others, {}, is_call=True), made))
        if mode is None:
            return None
        found = replace(module, mode=both(module.mode, mode))
        return self.noted(found) if isinstance(found, Made) else found

    def after_method(self, instance, method, given, named, text):
        """An object after a method of nn.Module, which is applied to the modules within it."""
        for made in modules_of(instance):
            _after_method(made, method, given, named)
        if method in ("train", "eval"):
            instance.attributes["training"] = method == "train" and (*given, True)[0] is not False
        return instance if method in _PASSED else Unknown(text)

    def of_parameters(self, node, method, given):
        """A part of a module that is frozen, or not."""
        parts = ast.unparse(node.func.value)
        roots = [made for name, made in self.names.items() if isinstance(made, Made) and parts.startswith(f"{name}.")]
        if not roots or method != "requires_grad_":
            return None
        root = roots[0]
        if ".get_parameter(" in parts:
            root.trained = self.parameter(node.func.value)
        elif parts.endswith("layers[:-1]"):
            root.trained = "last_layer"
        return root

    def parameter(self, node):
        """The name that get_parameter gets. Raises BadInput if the text does not tell it."""
        name = self.value(node.args[0]) if isinstance(node, ast.Call) and len(node.args) == 1 else None
        if not isinstance(name, str):
            raise BadInput(f"{ast.unparse(node)[:80]}: the name of the parameter is not told by the text")
        return name

    def computed(self, node, last, given, named):
        """The result of a function of torch that only computes."""
        text = ast.unparse(node)
        if last in ("float", "int") and given and isinstance(given[0], (str, int, float)):
            return computed(float if last == "float" else int, given[0])
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            if isinstance(owner, Named) and last in _KEEPING:
                return Named(owner.kind.replace("float", "bool")) if last == "bool" else owner
            if torch.is_tensor(owner):
                is_read = last in _METHODS.split() and not is_unknown((given, named))
                return computed(getattr(owner, last), *given, **on_cpu(named)) if is_read else Unknown(text)
        is_torch = ast.unparse(node.func) == f"torch.{last}" and last in _FUNCTIONS.split()
        given = self.sized(last, given)
        if not is_torch or is_unknown((given, on_cpu(named))):
            return Unknown(text)
        return computed(getattr(torch, last), *given, **on_cpu(named))

    def square(self, given, named):
        """The mask of generate_square_subsequent_mask, of which the text may not tell the size."""
        size = (*given, *([named["sz"]] if "sz" in named else []), Unknown("sz"))[0]
        return Named("float:causal") if is_unknown(size) else computed(square, size)

    def sized(self, last, given):
        """The arguments of a function, with numbers for the size of a square, if the text does not tell it."""
        sizes = given[0] if given and isinstance(given[0], (tuple, list)) else given[:2]
        if last not in _SIZED or len(sizes) != 2 or not isinstance(sizes[0], Unknown) or sizes[0] != sizes[1]:
            return given
        numbers = [self.length, self.length]
        return [numbers, *given[1:]] if sizes is given[0] else [*numbers, *given[2:]]

    def ask(self, kind, given, made):
        mode = both(made.mode if made else "eager", self.mode)
        context = next((context for context in reversed(self.contexts)), "")
        return Asked(kind, given, made and replace(made), context, mode, self.fast_path)


def _operated(node, function, *operands):
    """The value of an operator; Unknown for one that is not read (None), or whose operands are not known."""
    return text_of(node) if function is None or is_unknown(operands) else computed(function, *operands)


# ---- modules and modes ---------------------------------------------------------------------------------------------

_PASSED = ("to", "load_state_dict", "requires_grad_", "train", "eval", "double", "float", "half", "bfloat16", "cpu")
_MODES = {"jit.script": "scripted", "jit.trace": "traced", "export.export": "exported"}
_MODES |= {"deepcopy": "deepcopy", "checkpoint": "checkpoint", "quantize_dynamic": "quantized"}
_DTYPES = {"double": torch.float64, "float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}


def _after_method(made, method, given, named):
    if method == "cuda" or any(str(value).startswith("cuda") for value in (*given, *named.values())):
        raise BadInput("CUDA is not asked: it was measured with one release, 2.11 (docs/edge-cases.md)")
    if method in ("train", "eval"):
        made.training = method == "train" and (bool(given[0]) if given else True)
    elif method == "requires_grad_":
        made.trained = "none" if (*given, True)[0] is False else "all"
    elif method in _DTYPES:
        made.dtype = _DTYPES[method]
    elif method == "to":
        made.dtype = next((its for its in (*given, *named.values()) if isinstance(its, torch.dtype)), made.dtype)
    return made if method in _PASSED else Unknown(method)


def _mode_of_function(text, named):
    """The mode that torch.compile and its like mean; None if it is another function."""
    if text.endswith("torch.compile") or text == "compile":
        backend = named.get("backend", "inductor")
        if named.get("fullgraph"):
            return "compiled_fullgraph"
        if backend == "eager":
            return "compiled_eager"
        kind = {"aot_eager": "compiled", "inductor": "compiled_inductor"}.get(backend)
        if kind is None:
            raise BadInput(f"backend={backend!r}: not one of 'inductor', 'aot_eager', 'eager'")
        return f"{kind}_dynamic" if named.get("dynamic") else kind
    return next((mode for name, mode in _MODES.items() if text.endswith(name)), None)


def _mode_of_context(text):
    if "autocast(" in text:
        if "cuda" in text:
            raise BadInput("CUDA is not asked: it was measured with one release, 2.11 (docs/edge-cases.md)")
        return "autocast_float16" if "float16" in text.replace("bfloat16", "") else "autocast"
    if "sdpa_kernel(" in text or "sdp_kernel(" in text:
        is_math = "MATH" in text or "enable_flash=False" in text
        return "sdpa_math" if is_math else "sdpa_flash"
    return "default_device" if text.replace('"', "'") == "torch.device('meta')" else None


def _mode_in(tree):
    """The id of the mode whose statements stand in the text as they are, if one's do: the longest."""
    ours = _dumped([node for node in ast.walk(tree) if isinstance(node, ast.stmt)])
    known = [mode for mode in BY_ID.values() if mode.made and _statements(mode) <= ours and _is_own(mode)]
    return max(known, key=lambda mode: len(mode.made), default=BY_ID["eager"]).id


def _is_own(mode):
    return len(mode.made.splitlines()) > 1


@cache
def _statements(mode):
    return _dumped(ast.parse(mode.made).body)


def _dumped(nodes):
    return {ast.dump(node) for node in nodes}
