"""The report of a run: as text for people, as JSON for programs."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from .calls import FLEX
from .compare import AS_SPECIFIED, KNOWN, NOT_COMPARED, REFUSED, UNKNOWN, entry_of
from .diagnosis import Diagnosis, Finding

_PAGE = "docs/edge-cases.md"
_MOST_WORDS = 4  # mistakes of one kind and one function that the text tells, each with its own words


def as_json(diagnosis: Diagnosis, ended: str) -> str:
    """The report as JSON. ended: how the program ended, in words."""
    return json.dumps(as_plain(diagnosis, ended), indent=1)


def as_plain(diagnosis: Diagnosis, ended: str) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema": 1,
        "torch": torch.__version__,
        "ended": ended,
        "calls": sum(diagnosis.calls.values()),
        "compared": sum(its.calls for its in diagnosis.findings.values() if its.verdict != NOT_COMPARED),
        "findings": [_plain(finding) for finding in _sorted(diagnosis)],
        "mistakes": [
            {
                "place": str(place),
                "function": function,
                "id": mistake.id,
                "says": mistake.says,
                "remedy": mistake.remedy,
                "calls": number,
            }
            for (place, function, mistake), number in diagnosis.mistakes.items()
        ],
        "not seen": dict(diagnosis.passed),
        "errors of the doctor": dict(diagnosis.errors),
        "seconds of the doctor": round(diagnosis.seconds, 3),
    }


def _plain(finding):
    return {
        "place": str(finding.place),
        "function": finding.function,
        "verdict": finding.verdict,
        "calls": finding.calls,
        "masks": dict(finding.masks),
        **({"grids": shown} if (shown := {words: its for words, its in finding.grids.items() if its}) else {}),
        "paths": dict(finding.paths),
        "settings": dict(finding.settings),
        **{
            name: value
            for name in ("reason", "entries", "remedies", "difference", "size", "script")
            if (value := getattr(finding, name))
        },
    }


def _sorted(diagnosis) -> list[Finding]:
    return sorted(diagnosis.findings.values(), key=lambda finding: finding.gravity)


# ---- text ----------------------------------------------------------------------------------------------------------


def as_text(diagnosis: Diagnosis, ended: str) -> str:
    """The report as text."""
    return "\n".join([*_head(diagnosis, ended), *_mistakes(diagnosis), *_findings(diagnosis), *_tail(diagnosis)]) + "\n"


def _head(diagnosis, ended) -> Iterator[str]:
    calls = sum(diagnosis.calls.values())
    yield f"==== doctor: torch {torch.__version__}, {_number(calls, 'call')} of attention, {ended} ===="
    if not calls and diagnosis.passed:
        yield "No call could be compared, for these reasons:"
        return
    if not calls:
        yield (
            "No call was seen of nn.MultiheadAttention, nn.Transformer, its encoder, decoder and their layers, nor of"
            " F.multi_head_attention_forward, F.scaled_dot_product_attention or flex_attention: the"
            " program has no attention, or computes it by itself."
        )
        return
    counts: dict[str, int] = {}
    for finding in diagnosis.findings.values():
        counts[finding.verdict] = counts.get(finding.verdict, 0) + finding.calls
    yield (
        ", ".join(
            f"{verdict}: {counts[verdict]}"
            for verdict in (UNKNOWN, KNOWN, REFUSED, NOT_COMPARED, AS_SPECIFIED)
            if verdict in counts
        )
        + f"; mistakes of the caller: {len(diagnosis.mistakes)}"
    )


def _number(number, noun):
    return f"{number:,} {noun}" + "s" * (number != 1)


def _mistakes(diagnosis):
    groups: dict[tuple, list] = {}
    for (place, function, mistake), number in diagnosis.mistakes.items():
        groups.setdefault((function, mistake), []).append((place, number))
    told: Counter = Counter()
    for (function, mistake), places in groups.items():
        told[function, mistake.id] += 1
        if told[function, mistake.id] > _MOST_WORDS:
            continue
        yield ""
        yield f"MISTAKE {mistake.id}: {mistake.says}"
        calls = _number(sum(number for _, number in places), "call")
        yield f"    at {folded(place for place, _ in places)}, {function}, {calls}"
        yield f"    {mistake.remedy}"
    for (function, id), number in told.items():
        if number > _MOST_WORDS:
            yield ""
            yield f"MISTAKE {id}: {number - _MOST_WORDS} more of {function}, with other masks (--format json has all)"


def _findings(diagnosis):
    groups: dict[tuple, list[Finding]] = {}
    for finding in _sorted(diagnosis):
        key = (
            finding.verdict,
            finding.function,
            finding.reason,
            finding.entries,
            tuple(finding.masks),
            tuple(finding.paths),
            tuple(finding.settings),
        )
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        yield ""
        yield from _group(group)


def _group(group) -> Iterator[str]:
    first = group[0]
    verdict = first.verdict.upper() if first.verdict in (KNOWN, UNKNOWN) else first.verdict
    yield f"{verdict}: {folded(finding.place for finding in group)}"
    calls = _number(sum(finding.calls for finding in group), "call")
    path = f"; path: {' / '.join(first.paths)}" if first.function != FLEX else ""  # it has one
    yield f"    {first.function}, {calls}, {' / '.join(first.settings)}{path}"
    for words in list(first.masks)[:4]:
        yield f"    masks: {words}"
        yield from _grids(first.grids.get(words, {}))
    if len(first.masks) > 4:
        yield f"    and {len(first.masks) - 4} more kinds of masks"
    if first.reason:
        yield f"    {first.reason}"
    if first.difference and not first.reason:  # the reason is the error, and so is the difference
        yield f"    {first.difference}"
    if first.verdict in (KNOWN, UNKNOWN) and first.size:
        yield f"    largest difference from the reference: {max(finding.size for finding in group):.3g}"
    for id in first.entries:
        yield f"    because of {id}: {entry_of(id).title} ({_PAGE}#{id})"
    yield from (f"    remedy: {remedy}" for remedy in first.remedies[:3])
    if first.script:
        yield f"    script: {first.script}"


def _grids(grids) -> Iterator[str]:
    """The lines of small masks. grids: {name: grid}."""
    for name, text in grids.items():
        legend = "'#' is True, '.' False" if set(text) <= set("#. \n") else "'-' is -inf"
        yield f"        {name} ({legend}):"
        yield from (f"            {line}" for line in text.splitlines())


def _tail(diagnosis):
    for reason, number in diagnosis.passed.items():
        yield f"not seen: {reason} ({_number(number, 'time')})"
    for error, number in diagnosis.errors.items():
        yield f"error of the doctor, which says nothing about torch: {error} ({_number(number, 'time')})"
    more = sum(diagnosis.calls.values()) - sum(
        finding.calls for finding in diagnosis.findings.values() if finding.is_own
    )
    more -= sum(diagnosis.errors.values())
    if more > 0:
        yield f"{_number(more, 'further call')} of the same kinds not compared (--max-calls {diagnosis.most})"
    if diagnosis.calls:
        yield "results and errors were compared; gradients and warnings were not"
    yield f"the doctor spent {diagnosis.seconds:.1f} s on comparisons"


def folded(places: Iterable[Any]) -> str:
    """Places with runs of numbered layers joined: encoder.layers.{0-11}.self_attn."""
    groups: dict[str, list[int]] = {}
    for text in dict.fromkeys(map(str, places)):
        numbers = re.findall(r"(?<=\.|_)\d+(?=[. (]|$)", text)
        pattern = text if len(numbers) != 1 else re.sub(r"(?<=\.|_)\d+(?=[. (]|$)", "{}", text, count=1)
        groups.setdefault(pattern, []).extend(map(int, numbers[:1] if len(numbers) == 1 else ()))
    return ", ".join(
        pattern.replace("{}", _range(numbers)) if numbers else pattern for pattern, numbers in groups.items()
    )


def _range(numbers):
    numbers = sorted(set(numbers))
    if len(numbers) == 1:
        return str(numbers[0])
    is_run = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{{{numbers[0]}-{numbers[-1]}}}" if is_run else f"{{{','.join(map(str, numbers))}}}"
