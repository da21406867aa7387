"""The common parts of all scripts: head, imports, environment, and checks that the release supports the call.

A script exits with 0 if the release conforms, with 1 if it does not, and with 2 if the release lacks the function or an
argument of the call.
"""

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import torch

from tests.harness.cases.spelling import quoted
from tests.harness.execution.setting import CPU, Setting

from .python_text import WIDTH, Statement, Suite, rendered

if TYPE_CHECKING:
    from tests.harness.deviations.entry import Entry

SCALED_DOT_PRODUCT = "torch.nn.functional.scaled_dot_product_attention"


def assembled(
    blocks: Iterable[Sequence[Statement]], setting: Setting = CPU, head: Sequence[str] = (), begins: str = ""
) -> str:
    """The text of a script: the blocks with an empty line between them, below the imports that they need.

    blocks: of statements. head: lines of comment. begins: a statement that must precede the import of torch.
    """
    device = setting.device
    texts = ["\n".join(line for statement in block for line in rendered(statement)) for block in blocks if block]
    used = {"sys", *re.findall(r"\w+", "\n".join([begins, *texts]))}
    standard = ("copy", "functools", "importlib.util", "inspect", "io", "os", "re", "sys", "warnings")
    imports = [f"import {name}" for name in standard if name.partition(".")[0] in used]
    constants = ", ".join(name for name in ("inf", "nan") if name in used)
    others = [f"import {name}" for name in setting.imports]
    of_torch = [*others, "import torch", *(["import torch.utils.checkpoint"] if "checkpoint" in used else [])]
    of_torch += [f"from torch import {constants}"] if constants else []
    of_torch += ["from torch._subclasses import FakeTensorMode"] if "FakeTensorMode" in used else []
    utilities = ", ".join(name for name in ("parametrize", "prune") if name in used)
    of_torch += [f"from torch.nn.utils import {utilities}"] if utilities else []
    place = "torch.cuda.get_device_name()" if device.startswith("cuda") else quoted(device)
    environment = f'print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", {place})'
    parts = ["\n".join(head), "\n".join(imports), begins, "\n".join(of_torch), environment, *texts]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(entry: "Entry", remedies: Iterable[str]) -> list[str]:
    """The lines of the comment of a script: the title of the entry, and its remedies, one sentence each."""
    known = f" ({entry.upstream})" if entry.upstream.startswith("pytorch") else ""
    sentences = (f"{entry.title}{known}.", *(f"To avoid it: {remedy}" for remedy in remedies))
    wrapped = (wrap(its, WIDTH, initial_indent="# ", subsequent_indent="#     ") for its in sentences)
    return [line for lines in wrapped for line in lines]


def needs(owner: str, name: str) -> Suite:
    """A statement that ends the script if `owner` has no attribute `name`."""
    return _unable(f'not hasattr({owner}, "{name}")', f"{owner}.{name}")


def needs_argument(function: str, name: str) -> Suite:
    """A statement that ends the script if the function or class has no argument `name`."""
    if function == SCALED_DOT_PRODUCT:  # built in: only its docstring has a signature
        return _unable(f'"{name}=" not in {function}.__doc__', f"{name} in {function}")
    return _unable(f'"{name}" not in inspect.signature({function}).parameters', f"{name} in {function}")


def needs_release(version: str) -> Suite:
    """A statement that ends the script on releases before this version."""
    return _unable(f'torch.__version__ < "{version}"', f"such call, only {version} and later have")


def needs_package(name: str) -> Suite:
    """A statement that ends the script if a package is not installed."""
    return _unable(f'importlib.util.find_spec("{name}") is None', f"{name}, which runs the call")


def drawn() -> tuple[Statement, ...]:
    """Statements that end the script if a seed draws other random numbers than with the installed torch."""
    torch.manual_seed(0)
    numbers = [int(number) for number in torch.empty(16).bernoulli_()]
    differ = f"torch.empty(16).bernoulli_().tolist() != {numbers}"
    return ("torch.manual_seed(0)", _unable(differ, "generator of the same random numbers"))


def _unable(condition, what):
    """A statement that ends the script with exit code 2 under a condition. what: the missing thing, in words."""
    return Suite(f"if {condition}:", (f'print("not applicable: this release has no {what}")', "sys.exit(2)"))
