"""The examples of the page print what the page says, on affected releases, on others, and with the remedy."""

import contextlib
import io
import warnings

import pytest
import torch
from packaging.specifiers import SpecifierSet

from tests.harness.execution.release import installed
from tests.harness.ledgers import BY_ID
from tests.tools.site.example import IMPORTS
from tests.tools.site.examples import EXAMPLES

RELEASE = installed()
each_example = pytest.mark.parametrize("id", EXAMPLES)


def _holds(specifier):
    return SpecifierSet(specifier).contains(RELEASE.version, prereleases=True)


def _printed(code, warning):
    """The text that the code prints, or "Error: message". warning: the only warning that counts, as an error."""
    fast_path = getattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled", lambda _: None)
    printed = io.StringIO()
    torch.manual_seed(0)
    torch.set_warn_always(True)  # the warning would come once per process
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if warning:
                warnings.filterwarnings("error", message=".*nested tensors is in prototype stage")
            exec(compile(IMPORTS + code, "<example>", "exec"), {"__name__": "example"})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        torch.set_warn_always(False)
        torch.set_default_dtype(torch.float32)
        fast_path(True)
    return printed.getvalue().strip()


def _agrees(printed, text):
    return (
        printed.startswith(text)
        if "Error: " in text or "Warning: " in text or "Unsupported: " in text
        else printed == text
    )


@each_example
def test_an_example_prints_what_the_page_says(id):
    example = EXAMPLES[id]
    if not _holds(example.needs):
        pytest.skip(f"the example needs torch {example.needs}")
    expected = example.comes if BY_ID[id].concerns(RELEASE) else example.should
    printed = _printed(example.code, "Warning" in example.comes)
    assert _agrees(printed, expected), printed


@each_example
def test_an_example_with_its_remedy_prints_what_it_should(id):
    example = EXAMPLES[id]
    if not (_holds(example.needs) and _holds(example.helps) and example.remedy):
        pytest.skip("no remedy is claimed for this release")
    printed = _printed(example.remedied, "Warning" in example.comes)
    assert _agrees(printed, example.should), printed
