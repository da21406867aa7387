"""A case as a script that stands alone: it needs torch only, and exits 1 where the specification is not met.

`python -m tests.tools.reproduce 'CASE' [DEVICE]` prints that of a case, `python -m tests.tools.reproduce LEDGER-ID`
that of the pinned case of an entry. What a script expects comes from the reference, never from torch.
"""

import ast
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from math import floor, log10, prod
from textwrap import wrap

import numpy as np
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from reference.derivative import derivative
from tests.harness import comparison, ledger, wrong_masks_ledger
from tests.harness.again import parse
from tests.harness.arrays import directions, ignored, inputs, mask_arrays, parameters
from tests.harness.cases import Case, MultiHead, ScaledDotProduct, masks_of
from tests.harness.release import OLDEST, Release
from tests.harness.results import as_given, cotangents, garbage_rows, present
from tests.harness.situations import Call
from tests.harness.specification import specification
from tests.harness.subject import constructor, options
from tests.harness.verdict import bounds, mixes_types, predict
from tests.harness.wrong_masks import ACCEPTS, CALLS, not_applicable, source

# What a script can look at.
RESULTS, GRADIENTS, ERRORS, WARNINGS, ARGUMENTS = "results", "gradients", "errors", "warnings", "arguments"
EVERYTHING = frozenset((RESULTS, GRADIENTS, ERRORS, WARNINGS, ARGUMENTS))


def script(case, device="cpu", about=EVERYTHING, of=None, title="", upstream="", advice=""):
    """The script of a case.

    about: what to look at, as far as the case can show it. of: the arguments whose gradients are compared, by name;
    all by default. The less is looked at, the shorter the script. title, upstream and advice are told at its head.
    """
    moving = [name for name, array in directions(case).items() if array.size and name in (of or directions(case))]
    blocks = _Script(case, device, frozenset(about), tuple(moving)).blocks()
    return _assembled(blocks, device, _head(title, upstream, advice))


def wrong_mask_script(call, device="cpu", title="", upstream="", advice=""):
    """The script of a row of the table of wrong masks (wrong_masks.py)."""
    lines = source(call, device).replace("'", '"').splitlines()
    made = [line for line in lines if re.match(r"\w+ = ", line)]
    *before, invocation = lines[len(made) :]
    statement = _split_call(invocation)
    if before and before[-1].startswith("with"):
        statement = Suite(before.pop(), (statement,))
    # "mask" as a word, not in the name of an operator
    is_named = r're.search(r"(?<![\w:])(\w+_)?masks?(?!\w)", str(error), re.IGNORECASE)'
    refused = ('print("got", type(error).__name__, error)', f"sys.exit(not {is_named})")
    blocks = (
        (*made, *before, f'print("expected an error that names the mask: the right shape is {call.right_shape}")'),
        (Suite("try:", (statement,)), Suite("except Exception as error:", refused)),
        ('print("got no error")', f"sys.exit({int(ACCEPTS not in call.conforming)})"),
    )
    return _assembled(blocks, device, _head(title, upstream, advice))


def script_of_entry(entry, device="cpu"):
    """The script of an entry of either ledger: of its pinned case, or of its first row."""
    said = {"title": entry.title, "upstream": entry.upstream, "advice": entry.advice}
    if isinstance(entry, ledger.Deviation):
        return script(entry.pinned, device, shown_by(entry), lost_by(entry), **said)
    return wrong_mask_script(first_row(entry), device, **said)


def shown_by(entry):
    """What the pinned case of an entry deviates in."""
    computation = predict(entry.pinned, _applied(entry))
    if computation.warnings:
        return {WARNINGS}
    if computation.error:
        return {ERRORS}
    return {GRADIENTS} if directions(entry.pinned) else {RESULTS}


def lost_by(entry):
    """The arguments whose gradients it gets wrong, by name; None if there is none."""
    case = entry.pinned

    def differs(name):
        computations = predict(case, _applied(entry), displace=(name,)), specification(case, displace=(name,))
        slopes = [derivative(computation()["output"]) for computation in computations]
        return not np.allclose(*slopes, rtol=1e-9)

    return [name for name in directions(case) if differs(name)] or None


def _applied(entry):
    call = Call(entry.pinned, _first_affected(entry), ("sdpa_flash",))
    return ledger.applying(call, (entry,))


def shown_by_mismatches(mismatches):
    """What differs in a verdict."""
    kinds = {"warning": WARNINGS, "error": ERRORS, "gradient": GRADIENTS}
    return {
        ARGUMENTS if mismatch.what.endswith("after the call") else kinds.get(mismatch.what.split()[0], RESULTS)
        for mismatch in mismatches
    }


def first_row(entry):
    """The first wrong call that an entry applies to, one that the installed release has if there is any."""
    release = _first_affected(entry)
    rows = [call for call in CALLS if entry.applies(call, release)]
    return next((call for call in rows if not not_applicable(call, release)), rows[0])


def _first_affected(entry):
    oldest = [Version(part.version) for part in SpecifierSet(entry.affects) if part.operator == ">="]
    return Release(max([OLDEST, *oldest]), "cpu")


# ---- text as ruff formats it ---------------------------------------------------------------------------------------

_WIDTH = 120


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


def rendered(statement, width=_WIDTH):
    """The lines of a statement. Of a list of numbers as many stand in a line as fit, other than ruff has it."""
    if isinstance(statement, Suite):
        return [statement.head, *_indented(statement.statements, width)]
    if isinstance(statement, str) or len(str(statement)) <= width:
        return [str(statement)]
    body = ", ".join(map(str, statement.items))
    if statement.tail == ")" and len(body) <= width - 4:
        lines = [f"    {body}"]
    elif statement.tail == "]" and all(isinstance(item, str) for item in statement.items):
        lines = [f"    {line}" for line in wrap(f"{body},", width - 4)]
    else:
        lines = _indented(statement.items, width - 1, ",")
    return [statement.head, *lines, statement.tail]


def _indented(statements, width, end=""):
    lines = []
    for statement in statements:
        *others, last = rendered(statement, width - 4)
        lines += [f"    {line}" for line in (*others, last + end)]
    return lines


def _split_call(text):
    """A call that is text."""
    call = ast.parse(text.strip()).body[0].value
    named = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in call.keywords]
    return Bracketed(ast.unparse(call.func) + "(", (*map(ast.unparse, call.args), *named))


def _head(title, upstream, advice):
    known = f" ({upstream})" if upstream.startswith("pytorch") else ""
    sentences = [f"{title}{known}."] * bool(title) + [f"To avoid it: {advice}."] * bool(advice)
    return [line for sentence in sentences for line in wrap(sentence, _WIDTH, initial_indent="# ", **_HANGING)]


_HANGING = {"subsequent_indent": "#     "}


def _assembled(blocks, device, head):
    """The whole text, with the imports that it needs."""
    texts = ["\n".join(line for statement in block for line in rendered(statement)) for block in blocks if block]
    used = {"sys", *re.findall(r"\w+", "\n".join(texts))}
    imports = [f"import {name}" for name in ("re", "sys", "warnings") if name in used]
    constants = ", ".join(name for name in ("inf", "nan") if name in used)
    of_torch = ["import torch", *([f"from torch import {constants}"] if constants else [])]
    place = "torch.cuda.get_device_name()" if device.startswith("cuda") else _text(device)
    environment = f'print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", {place})'
    parts = ["\n".join(head), "\n".join(imports), "\n".join(of_torch), environment, *texts]
    return "\n\n".join(part for part in parts if part) + "\n"


# ---- numbers -------------------------------------------------------------------------------------------------------


def _number(x):
    """The fewest digits from which the same number is read again."""
    if isinstance(x, np.bool_):
        return str(bool(x))
    if not np.isfinite(x):
        return str(float(x))
    if x == np.finfo(x.dtype).min:
        return "lowest"
    if x == 0 or 1e-3 <= abs(x) < 1e9:
        return np.format_float_positional(x, trim="0")
    return np.format_float_scientific(x, trim="-", exp_digits=1)


def _listed(array, head=""):
    """The array as lists of lists."""
    if array.ndim == 0:
        return head + _number(array[()])
    return Bracketed(f"{head}[", tuple(map(_listed, array)), "]")


def _rounded(array, error):
    """Without the digits that a comparison with this error does not look at. What is not 0 stays so."""
    decimals = min(16, max(1, floor(1 - log10(error)))) if error else 16
    rounded = np.round(array, decimals)
    return np.where((rounded == 0) & (array != 0), np.copysign(1e-30, array), rounded)


def _upwards(x):
    """A number of one digit that is not less."""
    short = float(f"{x:.0e}")
    return short if short >= x else float(f"{1.5 * x:.0e}")


# ---- the script of a case ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Script:
    """Makes the paragraphs of a script: each is a tuple of statements."""

    case: Case
    device: str
    about: frozenset
    leaves: tuple  # the names of those whose gradients are compared

    def blocks(self):
        case = self.case
        layouts = {name: mask.layout for name, mask in masks_of(case).items()}
        sequences = [line for name, array in inputs(case).items() for line in self.input(name, array)]
        masks = [self.tensor(name, self.given(name, array), layouts[name]) for name, array in mask_arrays(case).items()]
        return (
            self.switches(),
            self.module() if self.is_module else self.weights(),
            sequences,
            sum(masks, ()),
            self.preparation(),
            self.call(),
            *(self.result(name) for name in self.expected if RESULTS in self.about),
            self.gradients(),
            self.verdict(),
        )

    @property
    def is_module(self):
        return not (isinstance(self.case, ScaledDotProduct) or self.is_functional)

    @property
    def is_functional(self):
        return getattr(self.case, "functional", False)

    @property
    def differentiates(self):
        return GRADIENTS in self.about and bool(self.leaves)

    @property
    def looks_at_numbers(self):
        return RESULTS in self.about or self.differentiates

    @cached_property
    def expected(self):
        return present(self.case, specification(self.case)())

    def given(self, name, array):
        return as_given(self.case, name, array)

    # ---- arguments

    def options(self, array=None, where="device"):
        """The keyword arguments that make a tensor or module of the right kind."""
        is_double = self.case.dtype == "float64" and (array is None or array.dtype != bool)
        moved = self.device != "cpu" and where == "device"
        return (*["dtype=torch.float64"] * is_double, *[f"device={_text(self.device)}"] * moved)

    def literal(self, head, array, where="device"):
        """An expression for a contiguous tensor."""
        options = self.options(array, where)
        if array.size == 0:
            kind = ["dtype=torch.bool"] * (array.dtype == bool)
            return Bracketed(f"{head}torch.zeros(", (str(array.shape), *kind, *options))
        if array.size > 6 and (array == array.flat[0]).all():
            return Bracketed(f"{head}torch.full(", (str(array.shape), _number(array.flat[0]), *options))
        return Bracketed(f"{head}torch.tensor(", (_listed(array), *options))

    def tensor(self, name, array, layout="contiguous"):
        """Statements that make a tensor with this layout of its memory, as subject.lay_out does."""
        axes = ", ".join(map(str, reversed(range(array.ndim))))
        *rows, columns = array.shape
        behind = self.behind(name) if layout == "contiguous" else 0
        if layout == "expanded" and array.size:
            fixed = [axis for axis in range(array.ndim) if (array == array.take([0], axis)).all()]
            once = array[tuple(slice(0, 1) if axis in fixed else slice(None) for axis in range(array.ndim))]
            lines = (self.literal(f"{name} = ", once, "cpu"), f"{name} = {name}.expand({_sizes(array)})")
        elif layout == "transposed":
            turned = f"{name} = {name}.permute({axes}).contiguous().permute({axes})"
            lines = (self.literal(f"{name} = ", array, "cpu"), turned)
        elif layout in ("sliced", "stepped"):
            step = 2 if layout == "stepped" else 1
            shape = (*(size + 2 for size in rows), step * columns + 2)
            window = ", ".join(["1:-1"] * len(rows) + ["1:-1" + ":2" * (step - 1)])
            lines = self.copied(name, array, shape, f"[{window}]")
        elif behind:
            lines = self.copied(name, array, (array.size + behind,), f"[:{array.size}].view({_sizes(array)})")
        else:
            return (self.literal(f"{name} = ", array),)
        return lines if self.device == "cpu" else (*lines, f"{name} = {name}.to({_text(self.device)})")

    def copied(self, name, array, shape, window):
        """A part of a larger tensor whose other elements must not matter."""
        poison = "True" if array.dtype == bool else "nan"
        around = ", ".join((str(shape), poison, *self.options(array, "cpu")))
        return (f"{name} = torch.full({around}){window}", self.literal(f"{name}[:] = ", array, "cpu"))

    def behind(self, name):
        """How much memory behind a tensor is filled: some releases read a mask of size 1 over keys past its end."""
        is_one = isinstance(self.case, ScaledDotProduct) and name == "attn_mask" and "S" in self.case.broadcast
        return prod((*self.case.batch, self.case.L, self.case.S)) if is_one and self.case.S > 1 else 0

    def input(self, name, array):
        """Statements that make a sequence."""
        is_copy = getattr(self.case, "attention", "") == "copies" and name in ("key", "value")
        if is_copy and self.case.layout == "contiguous":
            return (f"{name} = query.clone()",)
        return self.tensor(name, self.given(name, array), self.case.layout)

    # ---- what is called

    def switches(self):
        lowest = any((array == np.finfo(self.case.dtype).min).any() for array in mask_arrays(self.case).values())
        return (
            *["torch.backends.mha.set_fastpath_enabled(False)"] * (not getattr(self.case, "fast_path", True)),
            *[f"lowest = torch.finfo(torch.{self.case.dtype}).min"] * lowest,
        )

    def module(self):
        case = self.case
        given = {name: value for name, value in constructor(case).items() if (name, value) != ("activation", "relu")}
        arguments = (*(f"{name}={_text(value)}" for name, value in given.items()), *self.options())
        lines = [Bracketed(f"module = torch.nn.{case.module}(", arguments)]
        if case.module in ("TransformerEncoder", "TransformerDecoder"):
            stack = Bracketed(f"module = torch.nn.{case.module}(", ("layer", str(case.num_layers), *self.stack()))
            lines = [Bracketed(f"layer = torch.nn.{case.module}Layer(", arguments), stack]
        if self.looks_at_numbers:
            state = [_listed(array, f'"{name}": ') for name, array in parameters(case).items()]
            values = ", ".join(("values", *self.options(where="cpu")))
            loaded = f"{{name: torch.tensor({values}) for name, values in state.items()}}"
            lines += [Bracketed("state = {", tuple(state), "}"), f"module.load_state_dict({loaded})"]
        return (*lines, *["module.eval()"] * (not case.training), *self.freezing())

    def freezing(self):
        """Statements that leave autograd the parameters that it shall see: all, none, or those of the last layers."""
        if self.case.autograd in ("no_grad", "inference_mode"):
            return []
        frozen = [name for name in parameters(self.case) if name not in directions(self.case)]
        if len(frozen) == len(parameters(self.case)):
            return ["module.requires_grad_(False)"]
        stacks = dict.fromkeys(name.partition("layers.")[0] for name in frozen)
        return [f"module.{stack}layers[:-1].requires_grad_(False)" for stack in stacks]

    def stack(self):
        """The further arguments of a stack of layers."""
        case = self.case
        if case.norm:
            more = [f"eps={case.layer_norm_eps}"] * (case.layer_norm_eps != 1e-5) + ["bias=False"] * (not case.bias)
            yield f"norm=torch.nn.LayerNorm({', '.join((str(case.E), *more, *self.options()))})"
        if case.has_encoder:
            yield from (f"{name}=False" for name in ("enable_nested_tensor", "mask_check") if not getattr(case, name))

    def weights(self):
        """The parameters of F.multi_head_attention_forward."""
        arrays = parameters(self.case)
        return tuple(self.literal(f"{_variable(name)} = ", array) for name, array in arrays.items())

    def preparation(self):
        """What is done with the arguments before the call."""
        weights = parameters(self.case)
        moving = [_variable(name) for name in directions(self.case) if not (self.is_module and name in weights)]
        lines = [f"{name}.requires_grad_()" for name in moving]
        if ARGUMENTS in self.about:
            names = [*inputs(self.case), *mask_arrays(self.case)]
            lines += [Bracketed("arguments = {", tuple(f'"{name}": {name}' for name in names), "}")]
            lines += ["before = {name: argument.detach().clone() for name, argument in arguments.items()}"]
        return (*lines, *self.cotangent())

    def arguments(self):
        case, given = self.case, list(inputs(self.case))
        if isinstance(case, MultiHead):
            query, key, value = "query", "key" if "key" in given else "query", "value"
            sequences = [query, key, value if "value" in given else key]
        else:
            sequences = [name for name in ("query", "key", "value", "src", "tgt", "memory") if name in given]
        rename = {"src_mask": "mask"} if case.module == "TransformerEncoder" else {}
        static = [name for name in given if name.startswith("static")]
        others = options(case) if options(case).get("training") is not True else {**options(case), "training": None}
        return (
            *sequences,
            *(self.functional_arguments() if self.is_functional else ()),
            *(f"{rename.get(name, name)}={name}" for name in (*static, *masks_of(case))),
            *(f"{name}={value!r}" for name, value in others.items() if value is not None),
        )

    def functional_arguments(self):
        case, names = self.case, {_variable(name) for name in parameters(self.case)}
        weights = ["in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn", "dropout_p"]
        weights += ["out_proj_weight", "out_proj_bias"]
        given = {name: name if name in names else None for name in weights}
        given |= {"embed_dim_to_check": case.E, "num_heads": case.num_heads}
        given |= {"add_zero_attn": case.add_zero_attn, "dropout_p": case.dropout}
        separate = sorted(name for name in names if name[1:] == "_proj_weight")
        given |= {"use_separate_proj_weight": True} if separate else {}
        given |= {name: name for name in separate}
        return tuple(f"{name}={value}" for name, value in given.items())

    def call(self):
        """The call, with all that it is watched by."""
        results = "output, weights" if getattr(self.case, "need_weights", False) else "output"
        results = "output, _" if isinstance(self.case, MultiHead) and results == "output" else results
        backward = ERRORS in self.about and bool(self.leaves) and not self.differentiates
        target = f"{results} = " if self.looks_at_numbers or backward else ""
        name = "module(" if self.is_module else f"torch.nn.functional.{self.case.module}("
        body = [Bracketed(target + name, self.arguments())]
        body += self.backward() if self.differentiates else self.guarded("output.sum().backward()") * backward
        contexts = [f"torch.{self.case.autograd}()"] * (self.case.autograd in ("no_grad", "inference_mode"))
        if WARNINGS in self.about:
            body.insert(0, 'warnings.simplefilter("always")')
            contexts += ["warnings.catch_warnings(record=True) as caught"]
        lines = (Suite(f"with {', '.join(contexts)}:", tuple(body)),) if contexts else tuple(body)
        if ERRORS not in self.about:
            return lines
        told = 'print("expected no error, got", type(error).__name__, error)'
        return (Suite("try:", lines), Suite("except Exception as error:", (told, "sys.exit(1)")))

    # ---- gradients

    @cached_property
    def cotangents(self):
        return cotangents(self.case, {name: array.shape for name, array in self.expected.items()})

    def cotangent(self):
        """Statements that make what the results are contracted with."""
        if not self.differentiates:
            return ()
        weights = parameters(self.case) if self.is_module else {}
        items = [f'"{name}": {_variable(name)}' for name in self.leaves if name not in weights]
        chosen = [name for name in self.leaves if name in weights]
        if len(chosen) < len(weights):
            items += [Bracketed(f'"{name}": module.get_parameter(', (f'"{name}"',)) for name in chosen]
        else:
            items += ["**dict(module.named_parameters())"] * bool(chosen)
        factors = [self.literal(f"cotangent_of_{name} = ", array) for name, array in self.cotangents.items()]
        return (Bracketed("leaves = {", tuple(items), "}"), *factors)

    def backward(self):
        results = ", ".join(self.expected)
        weights = ", ".join(f"cotangent_of_{name}" for name in self.expected)
        results, weights = (results, weights) if len(self.expected) == 1 else (f"[{results}]", f"[{weights}]")
        arguments = (results, "list(leaves.values())", weights, "allow_unused=True")
        line = Bracketed("gradients = torch.autograd.grad(", arguments)
        return ["gradients = [None] * len(leaves)"] * (not any(self.slopes.values())) + self.guarded(line)

    def guarded(self, line):
        """Where nothing depends on the arguments, autograd may know it."""
        return [line] if any(self.slopes.values()) else [Suite("if output.requires_grad:", (line,))]

    @cached_property
    def slopes(self):
        """{name: derivative of the contracted results in the direction of this argument}"""
        return {name: self.slope((name,)).sum() for name in self.leaves}

    def slope(self, names, dtype="float64", part=derivative):
        """What the derivative in the direction of these arguments is the sum of."""
        results = present(self.case, specification(self.case, dtype, names)())
        with np.errstate(invalid="ignore"):
            return np.concatenate([(self.cotangents[name] * part(array)).ravel() for name, array in results.items()])

    def allowed(self):
        """The error that a derivative may have, as in verdict.py; how far gradients cancel is estimated."""
        exact, rough = (self.slope(tuple(self.leaves), dtype) for dtype in ("float64", "float32"))
        sums = np.concatenate([exact, list(self.slopes.values()), self.slope((), part=np.real)])
        condition = _norm(rough - exact) / comparison.ROUNDOFF32
        return _upwards(4 * comparison.allowance(self.case.dtype, condition, _norm(sums), comparison.terms(self.case)))

    def gradients(self):
        """Statements that compare the gradients."""
        if not self.differentiates:
            return ()
        allowed = self.allowed()
        moved = {name: self.given(name, directions(self.case)[name]) for name in self.leaves}
        product = "(gradient * gradient.new_tensor(directions[name]))"
        product += "" if self.case.dtype == "float64" else ".double()"
        slopes = [f'"{name}": {_number(_rounded(slope, allowed)[()])}' for name, slope in self.slopes.items()]
        loop = (
            f"slope = None if gradient is None else {product}.sum().item()",
            'print(f"derivative along {name}: expected {slopes[name]}, got {slope}")',
            f"wrong = wrong or not abs((slope or 0) - slopes[name]) <= {allowed}",
        )
        return (
            Bracketed("directions = {", tuple(_listed(array, f'"{name}": ') for name, array in moved.items()), "}"),
            Bracketed("slopes = {", tuple(slopes), "}"),
            *["wrong = False"] * (RESULTS not in self.about),
            Suite("for name, gradient in zip(leaves, gradients):", loop),
            *self.leaks(),
        )

    def leaks(self):
        """A key that no query may see has a gradient of exactly 0."""
        for source_, positions in ignored(self.case).items():
            for name in {"key": ("key", "value"), "memory": ("memory",)}.get(source_, ()):
                if name in self.leaves and not getattr(self.case, "static", False):
                    yield self.literal("hidden = ", self.given(name, positions))
                    yield f'wrong = wrong or dict(zip(leaves, gradients))["{name}"][hidden].any()  # nobody sees these'

    # ---- what is expected

    def result(self, name):
        """Statements that compare a result."""
        array, error = self.expected[name], _upwards(max(bounds(self.case, name)))
        garbage = garbage_rows(self.case, self.expected)[name]
        kept = array if garbage is None else np.where(garbage, np.nan, array)
        expected = "expected" if name == "output" else f"expected_{name}"
        lines = [self.literal(f"{expected} = ", _rounded(kept, error).astype(self.case.dtype), "cpu")]
        lines += [f"{name} = {name}.cpu()"] * (self.device != "cpu")
        lines += [f'print("expected {name}", {expected})', f'print("got {name}", {name})']
        counts, differs = "", f"{name}.shape != {expected}.shape"
        begun = "wrong = wrong or weights is None or" if name == "weights" else "wrong ="
        if np.isnan(kept).any():
            lines += [f"counts = ~{expected}.isnan()  # where it is nan, the query is garbage"]
            counts, differs = "[counts]", f"{differs} or not {name}.isfinite().all()"
        lines += [f"{begun} {differs}"]
        close = f"torch.allclose({name}{counts}, {expected}{counts}, rtol=0, atol={error})"
        lines += [f"wrong = wrong or not {close}"]
        lines += [f"wrong = wrong or {name}[{expected} == 0].any()"] * bool((kept == 0).any())
        return tuple(lines)

    def verdict(self):
        """The statements that end the script."""
        wrong, lines = ["wrong"] * self.looks_at_numbers, []
        if WARNINGS in self.about:
            messages = "[str(warning.message) for warning in caught]"
            lines += [f"messages = {messages}"]
            if mixes_types(self.case):  # documented as deprecated
                lines += ['messages = [message for message in messages if "mismatched" not in message]']
            lines += ['print("expected no warnings, got", messages)']
            wrong += ["messages"]
        if ARGUMENTS in self.about:
            lines += ["changed = [name for name in before if not torch.equal(arguments[name], before[name])]"]
            lines += ['print("expected no changed arguments, got", changed)']
            wrong += ["changed"]
        if not wrong:
            return ('print("expected no error, got none")',)
        return (*lines, f"sys.exit(bool({' or '.join(wrong)}))")


def _text(value):
    """A value as it is typed."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _sizes(array):
    return ", ".join(map(str, array.shape))


def _variable(name):
    """What a parameter is called where there is no module."""
    return name.replace(".", "_")


def _norm(array):
    return np.linalg.norm(array[np.isfinite(array)])


# ---- command line --------------------------------------------------------------------------------------------------


def main(arguments):
    """Print a script."""
    if len(arguments) not in (1, 2):
        return _refused("usage: python -m tests.tools.reproduce CASE-OR-LEDGER-ID [DEVICE]")
    text, *device = arguments
    entries = {entry.id: entry for entry in (*ledger.ENTRIES, *wrong_masks_ledger.ENTRIES)}
    if text in entries:
        print(script_of_entry(entries[text], *device), end="")
        return 0
    try:
        case = parse(text)
    except Exception as error:  # a text can be wrong in any way
        return _refused(f"neither an entry of the ledger nor a case: {text!r} ({type(error).__name__}: {error})")
    if not isinstance(case, Case):
        return _refused(f"not a case: {text!r}")
    print(script(case, *device), end="")
    return 0


def _refused(message):
    print(message, file=sys.stderr)
    return 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
