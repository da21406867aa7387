"""`python -m tests.tools claims [--check]` writes docs/claims.md from the claims of tests/claims, or checks it."""

import importlib
import inspect
import sys
import textwrap
from pathlib import Path
from types import ModuleType

from tests.claims.claim import Claim
from tests.harness.command_line import Parser
from tests.harness.releases import NEWEST, OLDEST

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"

# The files of tests/claims, in the order of the page. The docstring of each file is a heading.
FILES = (
    "test_polarity",
    "test_padding",
    "test_padding_alone",
    "test_combined",
    "test_grouped_heads",
    "test_causal",
    "test_transformer_arguments",
    "test_relative_position",
    "test_scores",
    "test_modes",
    "test_parts",
    "test_second_derivatives",
    "test_exported",
    "test_backends",
)

INTRODUCTION = f"""\
# What people say about masks

Claims that tutorials, answers and chatbots repeat about attention masks in PyTorch, in our words. Each claim has a
verdict, a reason, and a recipe that works. The tests named below each claim pass on CPU on every release of torch from
{OLDEST} to {NEWEST} (`python -m pytest tests/claims`). If releases differ, the tests expect of each release its own
behaviour. 1.13 has no `F.scaled_dot_product_attention`; its tests are skipped there. The tests assert every figure on
this page, against the [reference](../reference/README.md) or against numbers worked out by hand. The recipes are the
functions that the tests call.

N is the number of samples, S of keys, L of queries, T of target positions, E of features. "An attention that averages"
has scores that are all 0: its output is the mean of the tokens that a query sees, so the result tells which tokens
these are. "Eval without autograd" is `model.eval()` under `torch.no_grad()` or `torch.inference_mode()`, or with all
parameters frozen, of a module that was made with `batch_first=True` and an even number of heads. There torch may take
its native fast paths; the [catalogue](edge-cases.md) lists the known deviations of these paths. With
`batch_first=False`, which is the default, or an odd number of heads, a module computes in eval mode what it computes
in train mode without dropout. (The one exception is 2.0, in which `nn.MultiheadAttention` and the layers that contain
it take its fast path with an odd number of heads, too.)

Recipes are for tensors on CPU; on another device, give `device=` to the functions that make a mask. They begin with

```python
import math

import torch
import torch.nn.functional as F
from torch import nn
```

This page is written by `python -m tests.tools claims`.
"""


def modules() -> list[ModuleType]:
    """The test files of the claims, as imported modules, in the order of the page."""
    return [importlib.import_module(f"tests.claims.{name}") for name in FILES]


def claims_of(module: ModuleType) -> list[Claim]:
    """The claims that a test file declares, in the order of the file."""
    return [thing for thing in vars(module).values() if isinstance(thing, Claim)]


def page() -> str:
    """The text of docs/claims.md."""
    return "\n".join([INTRODUCTION, _table(), *(_chapter(module) for module in modules())])


def _table():
    rows = [
        f"| [{claim.id}](#{claim.id}) | {_joined(claim.says)} | {claim.verdict} |"
        for module in modules()
        for claim in claims_of(module)
    ]
    return "\n".join(["| claim | statement | verdict |", "| --- | --- | --- |", *rows, ""])


def _chapter(module):
    heading = module.__doc__.strip().rstrip(".").removeprefix("Claims about ")
    heading = heading[0].upper() + heading[1:]
    return "\n".join([f"## {heading}", "", *(_section(module, claim) for claim in claims_of(module))])


def _section(module, claim):
    file = f"tests/claims/{module.__name__.rpartition('.')[2]}.py"
    proof = f"Proof, in [{file}](../{file}): " + ", ".join(f"`{name}`" for name in claim.proof) + "."
    said = textwrap.indent(_wrapped(claim.says, 118), "> ")
    reason = _wrapped(f"**{claim.verdict[0].upper()}{claim.verdict[1:]}.** {claim.because}", 120)
    table = "\n".join(f"| {' | '.join(row)} |" for row in _with_rule(claim.table))
    recipe = "\n\n".join(inspect.getsource(part).strip() + "\n" for part in claim.recipe)
    parts = [f"### {claim.id}", said, reason, table, f"```python\n{recipe}```", _wrapped(proof, 120)]
    return "\n\n".join([part for part in parts if part]) + "\n"


def _with_rule(table):
    """The rows of a table, with the line that Markdown wants below the heads."""
    return [table[0], ["---"] * len(table[0]), *table[1:]] if table else []


def _joined(text):
    return " ".join(text.split())


def _wrapped(text, width):
    return textwrap.fill(_joined(text), width, break_long_words=False, break_on_hyphens=False)


def main(arguments: list[str]) -> int:
    """Write the page. With --check, write nothing, and return 1 if the page is stale."""
    parser = Parser(prog="python -m tests.tools claims", description="Write docs/claims.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    if parser.parse_args(arguments).check:
        stale = not PAGE.exists() or PAGE.read_text() != page()
        print(f"{PAGE.name} is {'stale: run python -m tests.tools claims' if stale else 'up to date'}")
        return int(stale)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
