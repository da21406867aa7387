"""The script of a case: the call, the expected results of the reference, and the comparison of both."""

import decimal
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reference.derivative import derivative
from tests.harness.cases.case import Case, SquareSubsequentMask, drops, mixes_types
from tests.harness.cases.dtypes import LOW, PRECISIONS, rounded
from tests.harness.cases.square_mask import statements
from tests.harness.contents.arrays import coarsest, directions, ignored, inputs, mask_arrays
from tests.harness.contents.results import as_given, cotangents, garbage_rows, present
from tests.harness.execution.call import made_under_inference_mode
from tests.harness.execution.implementation import load
from tests.harness.execution.runner import observe
from tests.harness.execution.setting import CPU, Setting
from tests.harness.judgement import comparison
from tests.harness.judgement.prediction import bounds, bounds_of_garbage, is_zero, predict, second_order
from tests.harness.modes.modes import computed_in

from .python_text import Bracketed, Suite, listed, number, rendered
from .second_order_script import differentiated_again, second_gradients
from .square_mask_script import square_mask_script
from .standalone import assembled, drawn
from .typed_call import TypedCall

_IN_ONE_LINE = 400  # width of the lines of a diff: one line for each statement

# The parts of an outcome that a script can check.
RESULTS, GRADIENTS, ERRORS, WARNINGS, ARGUMENTS = "results", "gradients", "errors", "warnings", "arguments"
EVERYTHING = frozenset((RESULTS, GRADIENTS, ERRORS, WARNINGS, ARGUMENTS))


def script(
    case: Case,
    setting: Setting = CPU,
    about: Collection[str] = EVERYTHING,
    of: Collection[str] | None = None,
    head: Sequence[str] = (),
    after: Case | None = None,
) -> str:
    """The text of the script of a case.

    about: the parts of the outcome to check, out of EVERYTHING; fewer parts make a shorter script.
    of: names of the arguments whose gradients are compared (default: all).
    head: lines of comment for the beginning of the script.
    after: another case, whose call comes first and creates the artifact that the case reuses.

    If the case has dropout, the case is run to observe which elements torch keeps. Raises UnlikeDropout if these cannot
    be explained.
    """
    if isinstance(case, SquareSubsequentMask):
        return square_mask_script(case, setting, head)
    leaves = tuple(name for name in directions(case) if of is None or name in of)
    typed, about = TypedCall(case, setting), frozenset(about)
    kept: tuple | None = ()
    if typed.mode.is_second_order:  # the sum of all gradients is differentiated again
        leaves, about = tuple(directions(case)), about | {GRADIENTS}
    if drops(case):
        observation = observe(case, setting.device, load(setting.subject) if setting.subject else None)
        kept = observation.kept
        if observation.error:  # perhaps before the last dropout
            about, kept = about - {RESULTS, GRADIENTS}, None
    text = _CaseScript(case, typed, about, leaves, kept, TypedCall(after, setting) if after else None)
    return assembled(text.blocks(), setting, head, typed.mode.begins)


def call_lines(case: Case, setting: Setting = CPU, with_inputs: bool = True) -> list[str]:
    """The lines of the call alone, one for each statement. The values of a module's parameters are left out.

    with_inputs: False leaves out the statements that make the inputs.
    """
    if isinstance(case, SquareSubsequentMask):
        return list(statements(case))
    typed = TypedCall(case, setting)
    text = _CaseScript(case, typed, frozenset(), ())
    made = (
        *text.switches(),
        *typed.parameters(with_values=False),
        *(typed.inputs() if with_inputs else ()),
        *typed.masks(),
        *typed.definitions(),
    )
    return [line for part in (*made, *typed.requirements(), *text.call()) for line in rendered(part, _IN_ONE_LINE)]


@dataclass(frozen=True)
class _CaseScript:
    """Makes the paragraphs of a script. A paragraph is a tuple of statements (python_text.py)."""

    case: Case
    typed: TypedCall
    about: frozenset  # the parts of the outcome to check, out of EVERYTHING
    leaves: tuple  # names of the arguments and parameters to differentiate for
    kept: tuple | None = ()  # the elements that dropout keeps, see `predict`
    before: TypedCall | None = None  # the call that comes first, if any

    def blocks(self):
        """All paragraphs; a paragraph without statements is empty."""
        results = self.expected if RESULTS in self.about else ()
        tangents = self.moved if self.is_forward and self.differentiates else ()
        return (
            *((statement,) for statement in self.typed.needs()),
            drawn() if self.is_random else (),
            self.switches(),
            self.typed.parameters(with_values=self.looks_at_numbers),
            *self.call_before(),
            self.made(self.typed.inputs(), inputs(self.case)),
            self.made(self.typed.masks(), mask_arrays(self.case)),
            tuple(self.typed.definitions()),
            (*self.typed.requirements(), *self.preparation()),
            self.call(),
            *(self.result(name) for name in results),
            *(self.tangent(name) for name in tangents),
            self.gradients(),
            self.verdict(),
        )

    @property
    def differentiates(self):
        """True if gradients are compared. Beside results of NaN they are not: a backward pass spreads NaN."""
        return GRADIENTS in self.about and bool(self.leaves) and not self.has_nan

    @property
    def has_nan(self):
        return self.case.holds_nan and any(np.isnan(array).any() for array in self.expected.values())

    @property
    def is_forward(self):
        return self.typed.mode.is_forward and bool(self.leaves)

    @property
    def is_second_order(self):
        return self.typed.mode.is_second_order and self.differentiates

    @property
    def is_random(self):
        return drops(self.case) and self.case.dropout < 1

    @property
    def looks_at_numbers(self):
        return RESULTS in self.about or self.differentiates

    @cached_property
    def specification(self):
        return predict(self.case, kept=self.kept)

    def dtype_of(self, name):
        """The dtype of a result."""
        is_of_scores = name == "lse" and self.specification.weights_dtype
        return self.specification.weights_dtype if is_of_scores else self.specification.dtype

    @cached_property
    def expected(self):
        return present(self.case, self.specification())

    @cached_property
    def moved(self):
        """The expected results with displaced leaves, from which tangents follow (reference/derivative.py)."""
        return present(self.case, predict(self.case, displace=self.leaves, kept=self.kept)())

    # ---- the call

    def made(self, statements, names):
        """The statements that make the tensors of these names, under the context in which they are made."""
        statements = tuple(statements)
        if statements and set(names) & set(made_under_inference_mode(self.case)):
            return (Suite("with torch.inference_mode():", statements),)
        return statements

    def preparation(self):
        """Statements that copy the arguments, set the tangents of the leaves, and make cotangents of the results."""
        if ARGUMENTS in self.about:
            names = [*inputs(self.case), *mask_arrays(self.case)]
            yield Bracketed("arguments = {", tuple(f'"{name}": {name}' for name in names), "}")
            yield "before = {name: argument.detach().clone() for name, argument in arguments.items()}"
            if not made_under_inference_mode(self.case):  # they count no writes
                yield "writes = {name: argument._version for name, argument in arguments.items()}"
        if self.differentiates or self.is_forward:
            yield Bracketed("leaves = {", tuple(self.typed.leaves(self.leaves)), "}")
        if self.is_forward or self.is_second_order:
            yield self.directions()
        if self.is_forward:
            moved = "leaf.tangent = leaf.new_tensor(directions[name]).view_as(leaf)"
            yield Suite("for name, leaf in leaves.items():", (moved,))
        elif self.differentiates:
            for name, array in self.cotangents.items():
                yield from self.typed.tensor(f"cotangent_of_{name}", array, self.case.layout, self.dtype_of(name))

    def switches(self):
        return tuple(dict.fromkeys((*(self.before.switches() if self.before else ()), *self.typed.switches())))

    def call_before(self):
        """Paragraphs with the call that comes first. It creates the artifact, and its result is not judged."""
        if self.before is None:
            return
        call = (
            Suite(f"with {', '.join(self.contexts)}:", (self.before.call(),)) if self.contexts else self.before.call()
        )
        yield tuple(self.before.inputs())
        yield tuple(self.before.masks())
        passed = Suite("except Exception:  # what is judged is the call that comes after", ("pass",))
        yield (*self.before.requirements(), Suite("try:", (call,)), passed)

    @property
    def contexts(self):
        contexts = [f"torch.{self.case.autograd}()"] * (self.case.autograd in ("no_grad", "inference_mode"))
        return [*contexts, *filter(None, [self.typed.mode.around(self.typed.device)])]

    def call(self):
        """Statements with the call and its backward pass, inside the contexts and the handler that watch them."""
        backward = ERRORS in self.about and bool(self.leaves) and not self.differentiates and not self.is_forward
        names = self.names if self.looks_at_numbers or backward or ARGUMENTS in self.about else ""
        body = [*[f"torch.manual_seed({self.case.seed})"] * self.is_random, self.typed.call(names)]
        if names and self.may_return_one:
            body.append("output = output if torch.is_tensor(output) else output[0]")
        body += ["lse = aux.lse"] * ("aux" in names)
        if self.differentiates and not self.is_forward:
            body += self.backward()
        body += self.guarded("output.sum().backward()") * backward
        contexts = self.contexts
        if WARNINGS in self.about:
            body.insert(0, 'warnings.simplefilter("always")')
            contexts += ["warnings.catch_warnings(record=True) as caught"]
        lines = (Suite(f"with {', '.join(contexts)}:", tuple(body)),) if contexts else tuple(body)
        if ERRORS not in self.about:
            return lines
        told = 'print("expected no error, got", type(error).__name__, error)'
        return (Suite("try:", lines), Suite("except Exception as error:", (told, self.exit("1"))))

    @property
    def names(self):
        """The variables for the results, as the left side of an assignment."""
        if self.case.is_flex:
            return {"": "output", "return_lse": "output, lse", "return_aux": "output, aux"}[self.case.lse]
        if not self.case.returns_pair or self.may_return_one:
            return "output"
        return "output, weights" if self.case.need_weights else "output, _"

    @property
    def may_return_one(self):
        """True if the callable may return the output alone, without weights that are None."""
        return self.typed.mode.called != "module" and self.case.returns_pair and not self.case.need_weights

    # ---- gradients

    @cached_property
    def cotangents(self):
        return cotangents(self.case, {name: array.shape for name, array in self.expected.items()})

    def backward(self):
        names = [name for name in self.expected if name == "output" or self.weights_depend]
        results, weights = ", ".join(names), ", ".join(f"cotangent_of_{name}" for name in names)
        results, weights = (results, weights) if len(names) == 1 else (f"[{results}]", f"[{weights}]")
        arguments = (results, "list(leaves.values())", weights, "allow_unused=True")
        arguments += ("create_graph=True",) * self.is_second_order
        line = Bracketed("gradients = torch.autograd.grad(", arguments)
        first = ["gradients = [None] * len(leaves)"] * (not self.depends) + self.guarded(line)
        return [*first, *differentiated_again()] if self.is_second_order else first

    def guarded(self, line):
        """The statement. If the results depend on no leaf, it has a condition: autograd may not record them."""
        return [line] if self.depends else [Suite("if output.requires_grad:", (line,))]

    @property
    def weights_depend(self):
        """True if the weights depend on a leaf. If they do not, autograd refuses to differentiate them."""
        return not all(name.startswith(("value", "static_v", "out_proj", "v_proj", "bias_v")) for name in self.leaves)

    @property
    def depends(self):
        """True if the results depend on any leaf."""
        return any(self.slopes.values())

    @cached_property
    def slopes(self):
        """{name of a leaf: derivative of the contracted results in the direction of this leaf}"""
        return {name: self.slope((name,)).sum() for name in self.leaves}

    def slope(self, names, dtype="float64", part=derivative):
        """The terms of the derivative of the contracted results in the direction of these leaves; 1-D."""
        results = present(self.case, predict(self.case, (), dtype, names, self.kept)())
        with np.errstate(invalid="ignore"):
            return np.concatenate([(self.cotangents[name] * part(array)).ravel() for name, array in results.items()])

    def allowed(self):
        """The allowed error of a derivative, as in verdict.py; the cancellation in gradients is estimated."""
        dtype = coarsest(self.case)
        rounded = comparison.rough(computed_in(self.case))
        exact, rough = (self.slope(self.leaves, its) for its in ("float64", rounded))
        sums = np.concatenate([exact, list(self.slopes.values()), self.slope((), part=np.real)])
        error, terms = _norm(rough - exact), comparison.terms(self.case)
        return _upwards(4 * comparison.bound_of_gradient(error, _norm(sums), dtype, terms))

    def gradients(self):
        """Statements that compare the gradients."""
        if not self.differentiates or self.is_forward:
            return ()
        allowed = self.allowed()
        is_double = coarsest(self.case) == "float64"
        product = f"(gradient{'' if is_double else '.double()'}.flatten() * direction)"
        slopes = [f'"{name}": {number(_rounded(slope, allowed)[()])}' for name, slope in self.slopes.items()]
        loop = (
            "direction = leaves[name].new_tensor(directions[name])",
            f"slope = None if gradient is None else {product}.sum().item()",
            'print(f"derivative along {name}: expected {slopes[name]}, got {slope}")',
            f"wrong = wrong or not abs((slope or 0) - slopes[name]) <= {allowed}",
        )
        return (
            *[self.directions()] * (not self.is_second_order),
            Bracketed("slopes = {", tuple(slopes), "}"),
            *["wrong = False"] * (RESULTS not in self.about),
            Suite("for name, gradient in zip(leaves, gradients):", loop),
            *self.leaks(),
            *(second_gradients(second_order(self.case, self.kept)) if self.is_second_order else ()),
        )

    def directions(self):
        """The statement that makes the directions of the derivatives."""
        moved = {name: as_given(self.case, name, directions(self.case)[name]).ravel() for name in self.leaves}
        return Bracketed("directions = {", tuple(listed(array, f'"{name}": ') for name, array in moved.items()), "}")

    def leaks(self):
        """Statements that check that the gradient of a key is exactly 0 if the key is hidden from every query."""
        for source, positions in ignored(self.case).items():
            for name in {"key": ("key", "value"), "memory": ("memory",)}.get(source, ()):
                if name in self.leaves and not self.case.static:
                    yield self.typed.literal("hidden = ", as_given(self.case, name, positions))
                    yield f'gradient = dict(zip(leaves, gradients))["{name}"]'
                    yield "wrong = wrong or (gradient is not None and gradient[hidden].any())  # hidden keys"

    # ---- expected values

    def result(self, name):
        """Statements that compare a result."""
        error = max(bounds(self.case, name, kept=self.kept))
        expected = "expected" if name == "output" else f"expected_{name}"
        begun = "wrong =" if name == "output" else f"wrong = wrong or {name} is None or"
        exact_zeros = is_zero(self.case, name, kept=self.kept)
        rows = self.rows_of_garbage(name)
        return self.compared(name, self.expected[name], error, exact_zeros, expected, begun, rows)

    def rows_of_garbage(self, name):
        """(garbage, allowed error, True where only NaN, inf or finite is compared), or None without garbage queries.

        Each array has shape (..., 1), with one element for each row. garbage: True in rows whose query is garbage.
        """
        garbage = garbage_rows(self.case, self.expected)[name]
        if garbage is None:
            return None
        allowed, is_left = bounds_of_garbage(self.case, name, self.kept)
        return garbage, allowed, garbage & is_left

    def tangent(self, name):
        """Statements that compare the tangent of a result. In rows of garbage, only NaN, inf or finite is compared."""
        error = max(bounds(self.case, name, derivative, self.kept))
        exact_zeros = is_zero(self.case, name, derivative, self.kept)
        is_first = RESULTS not in self.about and name == "output"
        expected, begun = f"expected_tangent_of_{name}", "wrong =" if is_first else "wrong = wrong or"
        garbage = garbage_rows(self.case, self.expected)[name]
        rows = None if garbage is None else (garbage, error, garbage)
        array = derivative(self.moved[name])
        return self.compared(f"{name}.tangent", array, error, exact_zeros, expected, begun, rows)

    def compared(self, got, array, error, exact_zeros, expected, begun, rows):
        """Statements that compare a tensor with an array.

        got: the expression of the tensor. error: the allowed error. exact_zeros: True at elements that must be 0.
        expected: a name for the array. begun: the beginning of the assignment to `wrong`. rows: see `rows_of_garbage`.
        """
        dtype = self.dtype_of(got)
        # The expected numbers of a low dtype are given as float32: rounded to `dtype`, they would add to the error.
        held, read = ("float32", f"{got}.float()") if dtype in LOW else (dtype, got)
        least = max(1e-30, PRECISIONS[dtype].tiny)
        error = 0.0 if exact_zeros.all() else _allowed(error)
        kept, allowed, of_rows = np.where((array == 0) & ~exact_zeros, least, array), error, ()
        if rows is not None:
            garbage, errors, is_left = rows
            kept = np.where(is_left, np.nan, kept)
            if (garbage & ~is_left).any():
                allowed = np.where(garbage, _each_allowed(errors), error)
                of_rows = (self.typed.literal("allowed = ", allowed, dtype=held),)
        lines = [self.typed.literal(f"{expected} = ", rounded(_rounded(kept, allowed, least), held), dtype=held)]
        lines += [f'print("expected {got}", {expected})', f'print("got {got}", {got})']
        counts, differs = "", f"{got}.shape != {expected}.shape"
        differs += f" or {got}.dtype != torch.{dtype}" * bool(self.typed.mode.lowers)
        if np.isnan(kept).any() and not self.case.holds_nan:
            lines += [f"counts = ~{expected}.isnan()  # nan: not compared, as rounding decides"]
            counts, differs = "[counts]", f"{differs} or not {got}.isfinite().all()"
        lines += [*of_rows, f"{begun} {differs}"]
        equal_nan = ", equal_nan=True" if self.case.holds_nan else ""
        close = f"torch.allclose({read}{counts}, {expected}{counts}, rtol=0, atol={error}{equal_nan})"
        if of_rows:
            both_nan = f" | ({got}.isnan() & {expected}.isnan())" if self.case.holds_nan else ""
            close = f"((({read} - {expected}).abs() <= allowed){both_nan}){counts}.all()"
        lines += [f"wrong = wrong or not {close}"]
        lines += [f"wrong = wrong or {got}[{expected} == 0].any()"] * bool((kept == 0).any())
        return tuple(lines)

    def verdict(self):
        """The last statements of the script: the remaining checks and the exit code."""
        wrong, lines = ["wrong"] * self.looks_at_numbers, []
        if WARNINGS in self.about:
            messages = "[str(warning.message) for warning in caught]"
            lines += [f"messages = {messages}"]
            if mixes_types(self.case):  # torch documents this deprecation
                lines += ['messages = [message for message in messages if "mismatched" not in message]']
            lines += ['print("expected no warnings, got", messages)']
            wrong += ["messages"]
        if ARGUMENTS in self.about:
            numbers = ".nan_to_num()" if self.case.holds_nan else ""
            same = f"torch.equal(arguments[name]{numbers}, before[name]{numbers})"
            lines += [f"equal = {{name: {same} for name in before}}"]
            is_written = "" if made_under_inference_mode(self.case) else "arguments[name]._version != writes[name] or "
            lines += [f"changed = [name for name in before if {is_written}not equal[name]]"]
            lines += ['print("expected no changed arguments, got", changed)']
            lines += ["lent = [name for name in before if 0 != arguments[name].data_ptr() == output.data_ptr()]"]
            lines += ['print("expected an output in no argument\'s memory, got that of", lent)']
            wrong += ["changed", "lent"]
        if not wrong:
            return ('print("expected no error, got none")', *[self.exit("0")] * self.typed.mode.is_shared)
        return (*lines, self.exit(f"bool({' or '.join(wrong)})"))

    def exit(self, code):
        """A statement that ends the script with this exit code, an expression."""
        return f"{'leave' if self.typed.mode.is_shared else 'sys.exit'}({code})"


def _norm(array):
    return np.linalg.norm(array[np.isfinite(array)])


def _rounded(array, error, least=1e-30):
    """The array without the digits that do not matter at this error. Elements that would become 0 become `least`."""
    decimals = _decimals(error)
    short = np.rint(array * 10.0**decimals) / 10.0**decimals
    return np.where((short == 0) & (array != 0), np.copysign(least, array), short)


def _decimals(error):
    """The number of decimals that matter at this error."""
    with np.errstate(divide="ignore"):
        return np.clip(np.floor(1 - np.log10(error)), 1, 16)


def _allowed(error):
    """A short number that is at least as large as the error, with what `_rounded` adds to it."""
    short = _upwards(error)
    rounding = 0.5 * 10.0 ** -_decimals(short)
    return short if short >= error + rounding else _upwards(error + rounding)


def _upwards(x):
    """The least number of one digit that is at least as large as x."""
    return float(decimal.Context(prec=1, rounding=decimal.ROUND_CEILING).create_decimal(float(x)))


_each_allowed = np.vectorize(_allowed, otypes=["float64"])
