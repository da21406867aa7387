"""A failed test as a value that exceptions and records carry, and its text for a person."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from textwrap import indent
from typing import Any

import numpy as np

from ..cases.case import Case, FlexAttention, SquareSubsequentMask, is_padding, masks_of
from ..cases.dtypes import LOW
from ..cases.square_mask import statements
from ..contents.arrays import inputs, mask_arrays, the_input, the_parameter
from ..contents.results import as_given
from ..execution import flex
from ..execution.call_code import (
    called,
    constructor_arguments,
    given_by_name,
    is_stack,
    other_arguments,
    sequences,
    stack_arguments,
    with_parameters,
)
from ..execution.runner import Observation
from ..execution.setting import CPU, Setting
from ..modes.modes import BY_ID
from ..modes.parsing import parse
from .verdict import Verdict
from .wording import RULES, Difference, differences

_WIDEST = 40  # rows and columns of a mask that are printed

_SPECIFICATION = "reference/README.md"


@dataclass(frozen=True)
class Failure:
    """A call that neither conforms nor deviates as predicted, or an entry with a wrong range.

    A failure of a call has a case, or a row of the table of wrong masks. A failure of a range has only an entry.
    """

    title: str  # one line that can be read alone
    module: str = ""  # name of the module or function that is called
    case: Case | None = None
    row: str = ""  # id of a table.WrongCall
    outcome: str = ""  # of the row (outcomes.py); older records lack it, and the message
    message: str = ""  # the first line of the error of the row
    entry: str = ""  # id of the entry of a ledger that the test is about
    first: Case | None = None  # the case for which the artifact was made, if it is not `case`
    twin: Case | None = None  # the case whose result is expected (laws.py)
    law: str = ""  # id of the law of the twin; older records lack it
    note: str = ""  # a sentence about the entry or the law
    mismatches: tuple[Difference, ...] = ()  # the gravest first
    rules: tuple[str, ...] = ()  # keys of wording.RULES: the rules that are broken
    deviations: tuple[str, ...] = ()  # ids of the entries of a ledger that predict the expected outcome
    served: tuple[str, ...] = ()  # paths that served the call, without repetitions
    setting: Setting = field(default_factory=Setting)

    @property
    def clauses(self) -> tuple[int, ...]:
        """The numbers of the clauses that are broken."""
        return tuple(sorted({RULES[rule][0] for rule in self.rules if rule in RULES}))

    @property
    def again(self) -> str:
        """The command line that runs and judges the case again; empty without a case."""
        if self.case is None:
            return ""
        command = " ".join([f'python -m tests.tools again "{self.case!r}"', *self.setting.options])
        return f'{command} --after "{self.first!r}"' if self.first else command

    def as_plain(self) -> dict[str, Any]:
        """The failure as plain data for a record, without empty values."""
        cases = {name: repr(case) for name in _CASES if (case := getattr(self, name)) is not None}
        without_cases: dict[str, Any] = dict.fromkeys(_CASES)
        plain = asdict(replace(self, **without_cases)) | cases
        plain["clauses"] = self.clauses
        plain["setting"] = {name: value for name, value in plain["setting"].items() if value}
        plain["mismatches"] = [{k: v for k, v in its.items() if v not in (None, "", ())} for its in plain["mismatches"]]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items() if v}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Failure":
        """The failure from the data of `as_plain`. Raises BadInput, or an error of Python, for other data."""
        values = {name: value for name, value in plain.items() if name != "clauses"}
        values |= {name: parse(values[name]) for name in _CASES if name in values}
        values |= {name: tuple(map(str, values[name])) for name in ("rules", "deviations", "served") if name in values}
        values["mismatches"] = tuple(_difference(its) for its in values.get("mismatches", ()))
        return cls(**values | {"setting": Setting(**values["setting"])})


_CASES = ("case", "first", "twin")


def _difference(plain):
    empty = dict.fromkeys(("symptom", "role", "expected", "got", "rule"), "") | {"of": ()}
    return Difference(**empty | {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()})


class Nonconformance(AssertionError):
    """Raised if torch does not behave as the model of its release.

    text: the message, with a report on each failure.
    """

    def __init__(self, text: str, *failures: Failure):
        super().__init__(text)
        self.failures = failures


def failure_of(
    case: Case, observation: Observation, verdict: Verdict, setting: Setting = CPU, **others: Any
) -> Failure:
    """The failure of a judged case. others: further fields of Failure."""
    served = tuple(dict.fromkeys(observation.served))
    found = differences(case, verdict.mismatches, verdict.deviations, served)
    rules = tuple(dict.fromkeys(difference.rule for difference in found))
    return Failure(
        title=f"{_who(case, setting)}: {found[0].says}",
        module=setting.factory or case.module,
        case=case,
        mismatches=found,
        deviations=tuple(verdict.deviations),
        served=served,
        setting=setting,
        **{"rules": rules} | others,
    )


def crash(text: str, setting: Setting = CPU) -> Failure:
    """The failure of a case that ended its process. text: repr of the case. Raises BadInput for other text."""
    case = parse(text)
    who = _who(case, setting)
    return Failure(f"{who}: the process ended during the call", setting.factory or case.module, case, setting=setting)


def _who(case, setting):
    """The module and the unusual settings of a case: "TransformerEncoderLayer, mode deepcopy, eval, bfloat16"."""
    parts = [setting.factory or case.module]
    parts += [f"mode {case.mode}"] * (case.mode != "eager")
    parts += [{True: "train", False: "eval"}[case.training]] if case.has_training_mode else []
    return ", ".join([*parts, *[case.dtype] * (case.dtype in LOW)])


# ---- for a person --------------------------------------------------------------------------------------------------


def report(failure: Failure) -> str:
    """The text on a failure that has a case."""
    case, setting = failure.case, failure.setting
    assert case is not None
    lines = [failure.title, "", *(f"    and {difference.says}" for difference in failure.mismatches[1:])]
    lines += [*quotations(failure), "", "Call (arguments in the shapes that torch takes):", ""]
    lines += _indented(call_text(case, setting))
    for name, array in mask_arrays(case).items():
        lines += ["", f"{name} ({_legend(case, name, array)}):", "", *_indented(grid(array))]
    lines += ["", "Served by: " + (", ".join(failure.served) or "no known path")]
    if failure.first:
        lines += ["", "The artifact was made by a call of another case (after --after below), and is used again."]
    return "\n".join([*lines, "", "Again:", "", f"    {failure.again}", ""])


def quotations(failure: Failure) -> Iterator[str]:
    """Lines with the reason for the expected outcome: a note, the entries that predict it, or the broken rules."""
    if failure.note:
        yield failure.note
    if failure.deviations:
        yield f"Expected are the deviations that the ledger knows here: {', '.join(failure.deviations)}."
    for rule in failure.rules if not failure.deviations else ():
        yield quotation(rule)


def quotation(rule: str) -> str:
    """The quotation of a rule with the number of its clause. rule: a key of wording.RULES."""
    number, sentence = RULES[rule]
    return f'Clause {number} of {_SPECIFICATION}: "{sentence}."'


def _indented(text):
    return [f"    {line}" for line in text.splitlines()]


def call_text(case: Case, setting: Setting = CPU) -> str:
    """The call as Python code, with shapes in place of tensors."""
    if isinstance(case, SquareSubsequentMask):
        return "\n".join(statements(case))
    shapes = {
        name: f"<{_dtype(case, name)} {tuple(as_given(case, name, array).shape)}>"
        for name, array in (inputs(case) | mask_arrays(case)).items()
    }
    made, name = _callee(case, setting)
    if isinstance(case, FlexAttention):
        read = [f"{mask} = {shapes[mask]}" for mask in masks_of(case)]
        made = "\n".join([*read, flex.imported(case), made + "\n".join(flex.definitions(case)), ""])
    lines = [_sequences(case, shapes)]
    lines += [", ".join(f"{name}={shapes.get(tensor, tensor)}" for name, tensor in given_by_name(case).items())]
    lines += [", ".join(other_arguments(case))]
    body = "\n".join(f"    {line}," for line in lines if line)
    return made + _in_context(case, f"{name}(\n{body}\n)", setting) + _of_mode(case)


def _sequences(case, shapes):
    if not case.attention:
        return ", ".join(f"{name}={shapes[name]}" for name in sequences(case))
    copies = {"self": "x, x, x", "copies": "x, x.clone(), x.clone()"}
    return f"{copies.get(case.attention, ', '.join(sequences(case)))}  # query {shapes['query']}"


def _dtype(case, name):
    mask = masks_of(case).get(name)
    return mask.dtype_beside(case.dtype) if mask else case.dtype


def _callee(case, setting):
    """(statements that make the module, name of the callable)"""
    mode, function = BY_ID[case.mode], called(case, setting)
    becomes = f"# becomes another `module`, see mode {mode.id} below\n" if _statements(mode) else ""
    if case.is_module:
        return f"module = {_made(case, setting)}\n{becomes}", "module"
    return (f"module = {function}\n{becomes}", "module") if mode.made else ("", function)


def _statements(mode):
    """The statements of the mode, between the creation of a module and the call."""
    return [*mode.made.splitlines(), *([f"module = {mode.called}"] if mode.called != "module" else [])]


def _of_mode(case):
    """The code of the mode, printed after the call since it may be long."""
    mode = BY_ID[case.mode]
    parts = [f"# before torch is imported:\n{mode.begins}"] if mode.begins else []
    parts += ["\n".join([f"# mode {mode.id}, before the call:", *lines]) for lines in [_statements(mode)] if lines]
    return "".join(f"\n\n{part}" for part in parts)


def _in_context(case, call, setting):
    """The call in its context managers, or with a comment on the tensors that require a gradient."""
    if within := BY_ID[case.mode].around(setting.device):
        call = f"with {within}:\n" + indent(call, "    ")
    if case.autograd in ("no_grad", "inference_mode"):
        return f"with torch.{case.autograd}():\n" + indent(call, "    ")
    gradient = {"grad": "all", "inputs": "inputs", "mask": "float masks", "last_layer": "the last layer"}
    if case.autograd == "one_parameter":
        gradient["one_parameter"] = the_parameter(case)
    if case.autograd == "one_input":
        gradient["one_input"] = the_input(case)
    what = "tangent" if BY_ID[case.mode].is_forward else "requires_grad"
    return f"{call}\n# {what}: {gradient.get(case.autograd, 'nothing')}"


def _made(case, setting):
    made = f"{with_parameters(case, setting)}({', '.join(constructor_arguments(case))})"
    if is_stack(case):
        made = f"{called(case, setting)}(\n    {', '.join(stack_arguments(case, made))}\n)"
    return f"{made}.{'train' if case.training else 'eval'}()"


def _legend(case, name, array):
    row = "sample" if is_padding(name) else "query"
    if array.dtype != bool:
        return f"{_dtype(case, name)} {array.shape}, added to the score: a row per {row}, '-' is -inf"
    meaning = "True, hides" if case.true_hides else "True, keeps"
    return f"bool {array.shape}: '#' is {meaning}; a row per {row}"


def grid(array: np.ndarray) -> str:
    """A mask as rows of characters: '#' is True, '.' False, '-' -inf. A stack of masks is printed slice by slice.

    Only the first 40 rows and columns and the first 4 slices are printed. array: bool or float, of any shape.
    """
    array = np.atleast_2d(array)
    if array.ndim == 2:
        return "\n".join(" ".join(_cell(x) for x in row[:_WIDEST]) for row in array[:_WIDEST])
    if not array.size:
        return ""
    slices = array.reshape(-1, *array.shape[-2:])
    shown = [f"slice {number}\n{grid(part)}" for number, part in enumerate(slices[:4])]
    return "\n".join(shown + ([f"and {len(slices) - 4} more"] if len(slices) > 4 else []))


def _cell(x):
    if isinstance(x, np.bool_):
        return "#" if x else "."
    if np.isneginf(x):
        return "    -"
    return f"{x:5.2g}" if x else "    0"
