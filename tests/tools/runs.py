"""The table of the runs of the whole suite: how many calls of each release they compared, and how long that took."""

from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS

from .ranges import on_device

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


def about(minor):
    """The command that makes a row, for this minor release, and what the columns mean: two paragraphs."""
    return (
        f"A row is a whole run of the suite, which `python -m tox -e torch{minor}` makes with two workers; "
        "`-- --device cuda` after the command measures another device.",
        "A call fails if it neither conforms nor deviates as predicted. Seconds are by the clock. CPU time inside "
        "torch is a share of the CPU time of the tests; the rest draws, predicts and compares the calls. Profile and "
        "seed (`--hypothesis-profile`, `--hypothesis-seed`) draw the same calls again. Vectors are the extension of "
        "the CPU that the kernels of torch use.",
    )


def rows(records):
    """A row for each record of a whole run: texts, in the order of HEADS."""
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
