"""Renders the catalogue as docs/edge-cases.md."""

from collections.abc import Iterable, Iterator, Sequence

from . import runs, ways
from .code_in_text import as_markdown
from .edge_cases import Catalogue
from .paths_in_words import MEANINGS


def to_markdown(catalogue: Catalogue, command: str) -> str:
    """The text of docs/edge-cases.md. command: the command that writes the page."""
    lines = [
        "# Edge cases of PyTorch's attention masks",
        "",
        f"<!-- Written by `{command}` from the ledgers and the records in docs/results: change those. -->",
        "<!-- fmt: off -->",  # keeps ruff from formatting the scripts
        "",
        "Attention with masks in PyTorch: the calls for which a release differs from the",
        "[specification](../reference/README.md), found and measured by this [suite](../README.md).",
        "[claims.md](claims.md) has recipes that work, [upstream.md](upstream.md) has notes on threads upstream, and",
        "[index.html](index.html) is this page with filters and a search. [edge-cases.json](edge-cases.json) has the",
        "entries for programs. Code begins with `import torch`, `from torch import nn` and",
        "`import torch.nn.functional as F`.",
        "",
        *(f"- **{word}:** {as_markdown(meaning)}" for word, meaning in MEANINGS),
        "",
        "; ".join(f"{glyph} {words}" for _, glyph, words in catalogue.legend) + "; empty: not measured.",
        "",
        *_matrix(catalogue),
    ]
    for kind, cases in catalogue.groups:
        lines += ["", f"## {kind.title}", "", kind.about]
        for case in cases:
            lines += _section(case, catalogue)
    return "\n".join([*lines, *_ways(catalogue), *_runs(catalogue), ""])


def _matrix(catalogue):
    heads = [column.name for column in catalogue.columns]
    yield f"| edge case | {' | '.join(heads)} |"
    yield f"| --- |{' :-: |' * len(heads)}"
    for kind, cases in catalogue.groups:
        yield f"| **{kind.title}** |{' |' * len(heads)}"
        for case in cases:
            yield f"| [`{case.id}`](#{case.id}) | {' | '.join(cell.glyph for cell in case.cells)} |"


def _section(case, catalogue):
    yield from ("", f'<a id="{case.id}"></a>', "", f"### {as_markdown(case.title)}", "")
    if case.symptom:
        yield from (as_markdown(case.symptom), "")
    if case.example:
        yield from ("```python", case.example.code, "```", "")
    if case.example and case.example.comes:
        yield from (f"comes out as `{case.example.outcome}`; it should be `{case.example.should}`.", "")
    clause = f"{catalogue.clauses[case.clause]} ([clause {case.clause}](../reference/README.md))"
    facts = {
        "Expected": clause,
        "When": as_markdown(case.trigger),
        "Instead": as_markdown(case.instead),
        "Releases": case.releases,
        "Modules": ", ".join(f"`{module}`" for module in case.modules),
        "Paths": ", ".join(f"`{path}`" for path in case.paths),
        "Ways": ", ".join(f"`{way}`" for way in case.ways),
        "Seen in": case.seen,
        "Upstream": f"[{case.upstream}]({case.link})" if case.link else "not found upstream: [notes](upstream.md)",
        "Id": f"`{case.id}`",
        "Script": f"[scripts/{case.id}.py](scripts/{case.id}.py)",
    }
    yield from (f"- **{name}:** {words}" for name, words in facts.items() if words)
    yield from _remedies(case)


def _remedies(case):
    """Generates lines with the remedies, the cheapest first, and the lines of the call that each changes."""
    yield f"- **What to do:** no remedy: {as_markdown(case.why_none)}" if case.why_none else "- **What to do:**"
    for remedy in case.remedies:
        facts = f" *({as_markdown(remedy.facts)})*" if remedy.facts else ""
        yield f"  - {as_markdown(remedy.text)}{facts}"
        if remedy.diff:
            yield from ("", "    ```diff", *(f"    {line}" for line in remedy.diff.splitlines()), "    ```", "")


def _ways(catalogue):
    rows = ways.rows(catalogue.columns)
    return _table(ways.TITLE, ways.about(), ways.heads(catalogue.columns), rows)


def _runs(catalogue):
    return _table(runs.TITLE, runs.about(catalogue.newest), runs.HEADS, runs.rows(catalogue.records))


def _table(title, about, heads, rows):
    if rows:
        yield from ("", f"## {title}")
        for paragraph in about:
            yield from ("", as_markdown(paragraph))
        yield ""
        yield from table(heads, rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], column: str = "---:") -> Iterator[str]:
    """Generates the lines of a table in Markdown. column: the alignment of all columns but the first."""
    yield from (f"| {' | '.join(heads)} |", f"| --- |{f' {column} |' * (len(heads) - 1)}")
    yield from (f"| {' | '.join(row)} |" for row in rows)
