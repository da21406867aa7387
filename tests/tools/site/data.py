"""The entries as data for other programs: docs/edge-cases.json, described by docs/edge-cases.schema.json."""

import json

from ..edge_cases import Catalogue, EdgeCase

VERSION = 1


def to_json(catalogue: Catalogue, command: str) -> str:
    """The text of docs/edge-cases.json."""
    measured = [{"torch": str(record.version), "device": record.device} for record in catalogue.records]
    made = {
        "$schema": "edge-cases.schema.json",
        "version": VERSION,
        "written_by": command,
        "measured": measured,
        "entries": [_entry(case, catalogue) for case in catalogue.cases],
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _entry(case: EdgeCase, catalogue):
    return {
        "id": case.id,
        "title": case.title,
        "symptom": case.symptom,
        "effect": case.kind,
        "clause": case.clause,
        "range": {"specifier": case.affects, "devices": dict(case.where), "present": _present(case, catalogue)},
        "modules": list(case.modules),
        "conditions": {
            "when": case.trigger,
            "instead": case.instead,
            "mode": list(case.facets.training),
            "autograd": list(case.facets.autograd),
            "masks": list(case.facets.masks),
        },
        "remedy": [
            {"text": its.text, "releases": its.releases, "only": its.only, "cost": its.cost, "tested": not its.untested}
            for its in case.remedies
        ],
        "no_remedy": case.why_none,
        "upstream": {"thread": case.upstream, "url": case.link} if case.link else None,
        "script": f"scripts/{case.id}.py",
    }


def _present(case, catalogue):
    """{device: minor releases that show the entry, in part or as a whole}"""
    found = {}
    for column, cell in zip(catalogue.columns, case.cells, strict=True):
        if cell.is_shown:
            found.setdefault(column.device, []).append(column.minor)
    return found


def schema(catalogue: Catalogue) -> str:
    """The text of docs/edge-cases.schema.json."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    words = {"type": "string", "minLength": 1}
    entry = {
        "id": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "description": "stable"},
        "title": words,
        "symptom": {**text, "description": "what a user sees who does not know the cause"},
        "effect": {"enum": sorted({kind.key for kind, _ in catalogue.groups})},
        "clause": {"type": "integer", "minimum": 1, "maximum": 10, "description": "of specification.html"},
        "range": _object(
            {
                "specifier": {**words, "description": "releases of torch, as a version specifier (PEP 440)"},
                "devices": {
                    "type": "object",
                    "additionalProperties": text,
                    "description": "for each device the releases in words",
                },
                "present": {
                    "type": "object",
                    "additionalProperties": texts,
                    "description": "for each device the minor releases whose records show it",
                },
            }
        ),
        "modules": {**texts, "description": "names in torch.nn or torch.nn.functional"},
        "conditions": _object(
            {
                "when": text,
                "instead": words,
                "mode": {"type": "array", "items": {"enum": ["train", "eval"]}},
                "autograd": {"type": "array", "items": {"enum": ["grad", "no_grad"]}},
                "masks": {"type": "array", "items": {"enum": ["bool", "float", "bias", "causal", "padding", "none"]}},
            }
        ),
        "remedy": {
            "type": "array",
            "description": "the cheapest first",
            "items": _object(
                {"text": words, "releases": text, "only": text, "cost": text, "tested": {"type": "boolean"}}
            ),
        },
        "no_remedy": {**text, "description": "the reason, if there is no remedy"},
        "upstream": {
            "oneOf": [{"type": "null"}, _object({"thread": words, "url": {"type": "string", "format": "uri"}})]
        },
        "script": {**words, "description": "a file beside this one, which exits 1 where the release is affected"},
    }
    measured = {"type": "array", "items": _object({"torch": words, "device": words})}
    entries = {"type": "array", "items": _object(entry)}
    whole = {
        "$schema": words,
        "version": {"const": VERSION},
        "written_by": words,
        "measured": measured,
        "entries": entries,
    }
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Edge cases of attention masks in PyTorch",
    }
    return json.dumps({**head, **_object(whole)}, indent=1) + "\n"


def _object(properties):
    """The schema of an object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
