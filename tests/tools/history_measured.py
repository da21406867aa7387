"""Measures the explanations of a run with --model on known changes: the entries that differ between two releases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from tests.harness.measurement.record import depends_on_cpu

if TYPE_CHECKING:
    from .history import Step


@dataclass(frozen=True)
class Measured:
    """The changes between two releases, and those that a run reported."""

    name: str  # of the step
    changed: frozenset[str]  # ids of entries that begin, end, or apply to other calls
    own: frozenset[str]  # of these, those that are a change of their own in the report
    right: frozenset[str]  # of these, those that an explanation names
    others: tuple[str, ...]  # the changes that were reported though no entry changed, in words

    @property
    def missed(self) -> tuple[str, ...]:
        """The entries that are no change of their own in the report, sorted."""
        return tuple(sorted(self.changed - self.own))

    @property
    def misread(self) -> tuple[str, ...]:
        """The entries that are reported, but that no explanation names, sorted."""
        return tuple(sorted(self.own - self.right))


def measured(step: "Step") -> Measured | None:
    """The measure of a step; None if its run ended each test with its first failure."""
    if not step.collects:
        return None
    told = [_Told(_named(its), [step.differing(call) for call in its["calls"]], its) for its in step.changes]
    moved = frozenset().union(*(ids for its in told for ids in its.differing))
    changed = (frozenset(step.changed) | moved) - step.refused
    right = frozenset().union(*(its.named for its in told)) & changed
    own = right | frozenset().union(*(its.common for its in told))
    others = [its for its in told if not its.named & changed and not any(its.differing)]
    others = [its for its in others if not any(map(step.has_other_nan, its.plain["calls"]))]
    return Measured(step.name, changed, own & changed, right, tuple(its.words for its in others))


@dataclass(frozen=True)
class _Told:
    """A reported change."""

    named: frozenset[str]  # ids of the entries that its explanation names
    differing: list[frozenset[str]]  # for each call, the ids of the entries that differ between both models
    plain: dict[str, Any]

    @property
    def common(self) -> frozenset[str]:
        """The ids of the entries that differ for each call."""
        return frozenset.intersection(*self.differing) if self.differing else frozenset()

    @property
    def words(self) -> str:
        """The explanation or the first title."""
        told, calls = self.plain["explanation"], self.plain["calls"]
        named = ", ".join(f"{its['id']} {its['kind']}" for its in told.get("changed", ()))
        return named or told.get("behaviour") or (calls[0]["says"] if calls else told["kind"])


def _named(change):
    return frozenset(its["id"] for its in change["explanation"].get("changed", ()))


def table(measures: Sequence[Measured | None]) -> Iterator[str]:
    """Lines of the page with a row for each step that was measured; none if no step was."""
    found = [its for its in measures if its is not None]
    if not found:
        return
    yield from (
        "",
        "## Measured on changes that are known",
        "",
        "An entry changes between two releases if it begins, ends, or applies to other calls, unless the newer release",
        "refuses them by a documented error. It is reported if a change in the report is its own: the explanation",
        "names it, or both models differ by it on each call of the change. It is explained if an explanation names it.",
        "The last column counts reports of calls on which both models agree.",
        "",
        "| | entries that change | reported | explained | not reported | reported, but not explained | no change |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: |",
    )
    for its in found:
        yield _row(its.name, len(its.changed), len(its.own), len(its.right), its.missed, its.misread, len(its.others))
    columns = zip(*((m.changed, m.own, m.right, m.others) for m in found), strict=True)
    changed, own, right, others = (sum(map(len, column)) for column in columns)
    yield _row("all", changed, own, right, (), (), others)


def _row(name, changed, own, right, missed, misread, others):
    cells = (_share(own, changed), _share(right, changed), _ids(missed), _ids(misread), str(others))
    return f"| {name} | {changed} | {' | '.join(cells)} |"


def _share(part, whole):
    return f"{part} ({part / whole:.0%})" if whole else "0"


def _ids(ids):
    return ", ".join(f"`{id}`" + (" (some CPUs)" if depends_on_cpu(id) else "") for id in ids)


def left_out(results: Sequence[dict]) -> Iterator[str]:
    """Lines of the page with a row for each result of leave_out.py, in order of release; none without results."""
    if not results:
        return
    yield from (
        "",
        "## Ledgers cut back",
        "",
        "The ledgers are cut back to what was known at the release before (`python -m tests.tools leave-out 2.4.1`). A",
        "run of the new release by this model tells changes; `propose` writes edits of the ledgers; the release is run",
        "again by its own model. The table counts the changes of the first run, the edits, and the changes that are",
        "left. A person has to write the effect of an entry where no explanation gives it.",
        "",
        "| | profile | changes | ranges | reaches | entries | of these without effect | by hand | left |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    )
    for its in sorted(results, key=lambda its: Version(its["torch"])):
        numbers = [len(its["changes"]), *(its[name] for name in ("ranges", "reaches", "entries", "without_effect"))]
        cells = " | ".join(map(str, [*numbers, len(its["by_hand"]), len(its["left"])]))
        yield f"| {its['model']} to {its['torch']} | {its['profile']} | {cells} |"
