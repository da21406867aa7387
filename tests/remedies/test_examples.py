"""The examples of the page print what the page says, on affected releases, on others, and with the remedy.

Examples by hand name the releases for which they hold. Examples that are made of a pinned case hold where the model of
the release says so.
"""

import contextlib
import io
import re
import sys
import warnings
from itertools import count
from types import ModuleType

import pytest
import torch
from packaging.specifiers import SpecifierSet

from tests.harness.deviations import ledger
from tests.harness.deviations.prediction import CONFORMS, DEVIATES, prediction
from tests.harness.execution.release import installed
from tests.harness.ledgers import BY_ID
from tests.harness.modes.inductor import can_build
from tests.harness.modes.modes import BY_ID as MODES
from tests.harness.modes.modes import EAGER
from tests.tools.site.example import IMPORTS
from tests.tools.site.examples import EXAMPLES
from tests.tools.site.natural import example_of, lifelike, remedied

RELEASE = installed()
MADE = [entry.id for entry in ledger.ENTRIES if entry.id not in EXAMPLES and example_of(entry)]
each_example = pytest.mark.parametrize("id", EXAMPLES)
each_made_example = pytest.mark.parametrize("id", MADE)


def _holds(specifier):
    return SpecifierSet(specifier).contains(RELEASE.version, prereleases=True)


_NUMBERS = count()


def _printed(code, warning):
    """The text that the code prints, or "Error<its bases: message". warning: the message that counts as an error."""
    fast_path = getattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled", lambda _: None)
    printed = io.StringIO()
    module = ModuleType(f"example_{next(_NUMBERS)}")  # TorchDynamo keeps what it finds in a module of one name
    sys.modules[module.__name__] = module
    torch.manual_seed(0)
    torch.set_warn_always(True)  # the warning would come once per process
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if warning:
                warnings.filterwarnings("error", message=f"[^$]*{re.escape(warning)}")
            exec(compile(IMPORTS + code, "<example>", "exec"), vars(module))
    except Exception as error:
        return f"{'<'.join(kind.__name__ for kind in type(error).__mro__)}: {error}"
    finally:
        torch.set_warn_always(False)
        torch.set_default_dtype(torch.float32)
        fast_path(True)
    return printed.getvalue().strip()


def _warning(example):
    """The message of the warning that the example shows; empty if it shows none."""
    kind, _, message = example.comes.partition(": ")
    return message if kind.endswith("Warning") else ""


def _agrees(printed, text):
    """True if the printed text is this one, or an error of this type whose message contains that of the text."""
    kind, colon, message = text.partition(": ")
    if not colon or " " in kind:
        return printed == text
    its_kinds, _, its_message = printed.partition(": ")
    return kind in its_kinds.split("<") and message in its_message


def _can_run(id):
    """True unless the example needs a C++ compiler or a package that is missing."""
    pinned = getattr(BY_ID[id], "pinned", None)
    mode = MODES[pinned.mode] if pinned else EAGER
    return (can_build() or not mode.builds) and mode.has_packages


# ---- by hand -------------------------------------------------------------------------------------------------------


@each_example
def test_an_example_prints_what_the_page_says(id):
    example = EXAMPLES[id]
    if not (_holds(example.needs) and example.comes and _can_run(id)):
        pytest.skip(f"the example needs torch {example.needs}{'' if example.comes else ' and a GPU'}")
    expected = example.comes if BY_ID[id].concerns(RELEASE) else example.should
    printed = _printed(example.code, _warning(example))
    is_here = getattr(BY_ID[id], "every_cpu", True) or _agrees(printed, example.comes)
    assert _agrees(printed, expected if is_here else example.should), printed


@each_example
def test_an_example_with_its_remedy_prints_what_it_should(id):
    example = EXAMPLES[id]
    if not (_holds(example.needs) and _holds(example.helps) and example.remedy and example.comes and _can_run(id)):
        pytest.skip("no remedy is claimed for this release")
    printed = _printed(example.remedied, _warning(example))
    assert _agrees(printed, example.with_remedy or example.should), printed


# ---- made of a pinned case -----------------------------------------------------------------------------------------


def _skip_unless_it_can_run(entry, case):
    if not example_of(entry).comes:
        pytest.skip("needs a GPU, or a CPU of another kind")
    if not RELEASE.offers(case):
        pytest.skip("this release lacks the call")
    if entry.ends and entry.concerns(RELEASE):
        pytest.skip("the call ends the process; tests/conformance runs it in one of its own")


@each_made_example
def test_a_made_example_prints_what_the_page_says(id):
    entry = BY_ID[id]
    example, case = example_of(entry), lifelike(entry)
    _skip_unless_it_can_run(entry, case)
    predicted = prediction(case, RELEASE)
    expected = {CONFORMS: example.should, DEVIATES: example.comes}.get(predicted.status)
    assert not entry.concerns(RELEASE) or predicted.ids == (id,) or not entry.every_cpu
    if expected is None or (predicted.ids and predicted.ids != (id,)):
        pytest.skip(f"something else comes out: {predicted}")
    printed = _printed(example.code, _warning(example))
    assert _agrees(printed, expected), printed


@each_made_example
def test_a_made_example_with_a_remedy_prints_what_it_should(id):
    entry = BY_ID[id]
    _skip_unless_it_can_run(entry, lifelike(entry))
    if prediction(lifelike(entry), RELEASE).ids != (id,):
        pytest.skip("the example does not show the entry alone in this release")
    for remedy in entry.remedies:
        example = remedied(entry, remedy, RELEASE.version) if remedy.holds_in(RELEASE.version) else None
        if example:
            printed = _printed(example.code, _warning(example))
            assert _agrees(printed, example.should), (remedy.text, example.code, printed)
