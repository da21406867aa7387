"""What every script has, whatever it shows: a head, imports, the environment, and the question whether it can run.

A script exits 0 where the specification is met, 1 where it is not, and 2 where the release lacks what would be called,
so that nothing can be said of it.
"""

import re
from textwrap import wrap

import torch

from tests.harness.execution.setting import CPU

from .python_text import WIDTH, Suite, quoted, rendered

SCALED_DOT_PRODUCT = "torch.nn.functional.scaled_dot_product_attention"


def assembled(blocks, setting=CPU, head=(), begins=""):
    """The whole text: blocks of statements with an empty line between them, and the imports that these need.

    begins: a statement that comes before torch is imported.
    """
    device = setting.device
    texts = ["\n".join(line for statement in block for line in rendered(statement)) for block in blocks if block]
    used = {"sys", *re.findall(r"\w+", "\n".join([begins, *texts]))}
    standard = ("copy", "functools", "inspect", "io", "os", "re", "sys", "warnings")
    imports = [f"import {name}" for name in standard if name in used]
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


def heading(entry, remedies):
    """The comment that tells what a script of this entry of a ledger shows, and its remedies, a sentence each."""
    known = f" ({entry.upstream})" if entry.upstream.startswith("pytorch") else ""
    sentences = (f"{entry.title}{known}.", *(f"To avoid it: {remedy}" for remedy in remedies))
    hanging = {"initial_indent": "# ", "subsequent_indent": "#     "}
    return [line for sentence in sentences for line in wrap(sentence, WIDTH, **hanging)]


def needs(owner, name):
    """A statement that ends the script where there is no such function or module."""
    return _unable(f'not hasattr({owner}, "{name}")', f"{owner}.{name}")


def needs_argument(function, name):
    """A statement that ends the script where the function, or the class, takes no argument of this name."""
    if function == SCALED_DOT_PRODUCT:  # built in: it has no signature but in its text
        return _unable(f'"{name}=" not in {function}.__doc__', f"{name} in {function}")
    return _unable(f'"{name}" not in inspect.signature({function}).parameters', f"{name} in {function}")


def needs_release(version):
    """A statement that ends the script in a release before this one."""
    return _unable(f'torch.__version__ < "{version}"', f"such call; {version} has")


def drawn():
    """Statements that end the script where the same seed draws other random numbers than here."""
    torch.manual_seed(0)
    numbers = [int(number) for number in torch.empty(16).bernoulli_()]
    differ = f"torch.empty(16).bernoulli_().tolist() != {numbers}"
    return ("torch.manual_seed(0)", _unable(differ, "such random numbers"))


def _unable(condition, what):
    return Suite(f"if {condition}:", (f'print("cannot be asked: this release has no {what}")', "sys.exit(2)"))
