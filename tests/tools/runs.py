"""The table of runs of the whole suite: the calls compared on each release, the verdicts, and the time."""

from collections.abc import Iterable

from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS

from .ranges import on_device
from .records import Record

TITLE = "Runs"
HEADS = (
    "release",
    "calls compared",
    "conform",
    "deviate as predicted",
    "fail",
    "seconds",
    "CPU time inside torch",
    "profile",
    "seed",
    "vectors",
)


def about(minor: str) -> tuple[str, str]:
    """Two paragraphs: the command that makes a row for this minor release, and the meaning of the columns."""
    return (
        f"Each row is a whole run of the suite. `python -m tox -e torch{minor}` makes such a run with two workers; "
        "`-- --device cuda` after the command measures another device.",
        "A call fails if it neither conforms nor deviates as predicted. Seconds are by the clock. CPU time inside "
        "torch is a share of the CPU time of the tests; the rest draws, predicts and compares the calls. A run with "
        "the same profile and seed (`--hypothesis-profile`, `--hypothesis-seed`) draws the same calls. Vectors is the "
        "vector extension of the CPU that the kernels of torch use.",
    )


def rows(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """A row for each record of a whole run: cells as text, in the order of HEADS."""
    return [_row(record) for record in records if record.is_whole]


def _row(record):
    share = record.cpu_seconds_in_torch / max(record.cpu_seconds, 0.1)
    return (
        on_device(str(record.version), record.device),
        f"{record.calls:,}",
        *(f"{record.statuses.get(verdict, 0):,}" for verdict in (CONFORMS, DEVIATES, FAILS)),
        f"{record.seconds:.0f}",
        f"{share:.0%}",
        record.profile,
        record.seed,
        record.cpu,
    )
