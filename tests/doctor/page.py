"""`python -m tests.tools doctor-models` runs public models under the doctor, and writes docs/doctor.md.

The models have random weights and live in tests/doctor/examples; their packages are needed. --check compares the page
with the file in place of writing it, and exits 1 if they differ.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.harness.command_line import HARNESS_ERROR, Parser

from .compare import AS_SPECIFIED, KNOWN, NOT_COMPARED, REFUSED, UNKNOWN
from .mistakes import KINDS
from .report import folded

_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "tests" / "doctor" / "examples"
_PAGE = _ROOT / "docs" / "doctor.md"
_PACKAGES = ("torch", "torchvision", "torchaudio", "transformers", "speechbrain")

_TEXT = """\
# Doctor: your own model

<!-- Written by `python -m tox -e doctor-models`. -->

```
python -m tests.tools doctor my_script.py [arguments]
python -m tests.tools doctor package.module:factory
```

runs a program in the environment that it lives in, watches each call of `nn.MultiheadAttention`, the five transformer
modules, `F.multi_head_attention_forward`, `F.scaled_dot_product_attention` and `flex_attention`, wherever it is made,
and compares its result with the [reference](../reference/README.md), evaluated in float64 on the actual parameters,
inputs and masks. The `mask_mod` and `score_mod` of `flex_attention` are evaluated at all positions for this.
Run it in a clone of this repository, or from any folder as `python CLONE/masks.py doctor my_script.py`; it needs Python
3.10 or later, torch 1.13 or later, numpy and packaging.

The program's output and exit code stay. The report goes to stderr, or to `--report FILE`; `--format json` is for
programs. A factory is called without arguments; it may return a module and its inputs, which are then called.

| option | effect |
| --- | --- |
| `--max-calls 10` | compare so many calls of each kind at a place; further calls are counted |
| `--report FILE` | write the report to this file |
| `--format json` | the report as JSON |
| `--scripts FOLDER` | where scripts of unknown differences are written (default: `doctor-scripts`) |
| `--timeout SECONDS` | end the program after so long, with the report on what was seen |

| exit code | |
| --- | --- |
| that of the program | also where differences are found |
| 1 | the program raised; its traceback is printed as usual |
| 4 | bad input: no such script or factory, an unknown option, a report that cannot be written |
| 130, 143, 142 | the program was interrupted, terminated, or stopped by `--timeout`: the report says what was seen |

## The verdicts

| verdict | meaning |
| --- | --- |
| as specified | the result is that of the reference, within the error bound of its dtype |
| DIFFERS, KNOWN | an entry of the ledger predicts the result exactly; its remedies that hold for this call follow |
| DIFFERS, UNKNOWN | no entry explains it: a script repeats the call, and exits 1 where it differs |
| raises as documented | the error is documented, or an argument has a shape that no rule allows |
| not compared | the reason is given, and calls inside it are compared by themselves |

An outer call is compared as a whole; the calls inside it are compared where it cannot be (a subclass with a forward of
its own, an unknown activation, hooks) or where nobody knows why it differs. Not compared: dropout in training, layers
that are quantized (attentions in them are compared), numbers that hold NaN or inf before the call, overflow in float16,
and results that rounding decides, beside scores of thousands. Not seen: traced and scripted calls, nested, fake and
meta tensors, other processes, and attention that a program computes by itself. Gradients and warnings are not looked
at. Where a call differs or raises, its masks of at most 12 rows and columns are shown as grids.

`torch.compile(flex_attention)` is compared as any other call. Attention inside other compiled functions and models is
seen in part, or not at all: the report counts their calls. `TORCHDYNAMO_DISABLE=1` in the environment makes torch run
them uncompiled, and then all of it is compared. In the script of a call of `flex_attention`, tables of their values
stand for `mask_mod` and `score_mod`, since the text of these functions may need the rest of the program.

A comparison takes about 50 times as long as the call. Beyond `--max-calls`, a call takes 7 %% longer (8 samples of
128 positions and 256 features), or 2.5 times as long if it is tiny (3 positions, 8 features). The inputs and results of
one call, with those of the calls inside it, are kept until it is judged; of calls with more than 2^24 scores the first
samples alone are compared.

## Mistakes of the caller

These calls are allowed, and probably mistakes:

| id | the call |
| --- | --- |
%(mistakes)s

## Public models

Random weights; each script is in [tests/doctor/examples](../tests/doctor/examples). %(packages)s

%(models)s
"""


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog="python -m tests.tools doctor-models", description="Run public models, and write a page.")
    parser.add_argument("--check", action="store_true", help="compare the page with the file, and write nothing")
    options = parser.parse_args(arguments)
    try:
        text = _page()
    except _Failed as failed:
        print(failed, file=sys.stderr)
        return HARNESS_ERROR
    if not options.check:
        _PAGE.write_text(text, encoding="utf-8")
        return 0
    is_equal = _PAGE.is_file() and _PAGE.read_text(encoding="utf-8") == text
    if not is_equal:
        print(f"{_PAGE.relative_to(_ROOT)} is not what these models give", file=sys.stderr)
    return int(not is_equal)


class _Failed(Exception):
    """An example failed."""


def _page():
    reports = {path: _report(path) for path in sorted(_EXAMPLES.glob("*.py"))}
    return _TEXT % {
        "mistakes": "\n".join(f"| `{id}` | {what} |" for id, what in KINDS.items()),
        "packages": f"Found with {', '.join(filter(None, map(_version, _PACKAGES)))}.",
        "models": _table(reports) + "\n\n" + "\n\n".join(_section(path, report) for path, report in reports.items()),
    }


def _version(package):
    try:
        return f"{package} {version(package).partition('+')[0]}"
    except PackageNotFoundError:
        return ""


def _report(path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        options = ["--format", "json", "--report", str(report), "--scripts", folder]
        command = [sys.executable, "-m", "tests.tools", "doctor", *options, str(path)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
        if ran.returncode:
            raise _Failed(f"{path.name}: exit code {ran.returncode}\n{ran.stderr}")
        return json.loads(report.read_text(encoding="utf-8"))


def _summary(path):
    """The first line of the docstring of an example."""
    return path.read_text(encoding="utf-8").partition("\n")[0].strip('"')


def _table(reports):
    rows = ["| model | calls | found |", "| --- | ---: | --- |"]
    for path, report in reports.items():
        rows.append(f"| [{path.stem}](#{path.stem.replace('_', '-')}) | {report['calls']} | {_found(report)} |")
    return "\n".join(rows)


def _found(report):
    """What was found, in a cell."""
    if not report["calls"]:
        return "no call: it computes attention by itself"
    counts = {}
    for finding in report["findings"]:
        counts[finding["verdict"]] = counts.get(finding["verdict"], 0) + finding["calls"]
    parts = [f"{verdict}: {counts[verdict]}" for verdict in _ORDER if verdict in counts]
    entries = dict.fromkeys(id for finding in report["findings"] for id in finding.get("entries", ()))
    parts += [f"[{id}](edge-cases.md#{id})" for id in entries]
    return "; ".join([*parts, *(f"mistake `{id}`" for id in dict.fromkeys(its["id"] for its in report["mistakes"]))])


_ORDER = (UNKNOWN, KNOWN, REFUSED, NOT_COMPARED, AS_SPECIFIED)


def _section(path, report):
    lines = [f"### {path.stem.replace('_', ' ')}", "", _summary(path), ""]
    groups: dict[tuple, list[dict]] = {}
    for finding in report["findings"]:
        key = (finding["verdict"], finding["function"], *(tuple(finding.get(name, ())) for name in _SHOWN))
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        lines += _lines(group)
    for (id, says), group in _grouped(report["mistakes"], "id", "says").items():
        lines.append(f"- mistake `{id}` at `{folded(its['place'] for its in group)}`: {says}.")
    return "\n".join(lines).rstrip()


_SHOWN = ("reason", "entries", "masks", "paths")


def _grouped(values, *names):
    groups: dict[tuple[str, ...], list[dict]] = {}
    for value in values:
        groups.setdefault(tuple(value[name] for name in names), []).append(value)
    return groups


def _lines(group):
    """The lines about findings that differ in their places alone."""
    first, number = group[0], sum(finding["calls"] for finding in group)
    calls = f"{number} call" + "s" * (number != 1)
    places, function = folded(finding["place"] for finding in group), first["function"]
    masks = " / ".join(first["masks"])
    yield (f"- {first['verdict']}: `{places}`, {function}, {calls}; masks: {masks}; path: {' / '.join(first['paths'])}")
    if reason := first.get("reason"):
        yield f"  - {reason}"
    for id in first.get("entries", ()):
        yield f"  - because of [{id}](edge-cases.md#{id})"
    for remedy in first.get("remedies", ())[:1]:
        yield f"  - remedy: {remedy}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
