"""The documents of the page's search: entries, claims and clauses, with the words of readers."""

from tests.harness.expectation.clauses import CLAUSES

from ..claims import claims_of, modules
from ..edge_cases import Catalogue, EdgeCase
from .words import CLAIMS, ENTRIES, OF_MODELS, place

ENTRY, CLAIM, RULE, PAGE = "edge case", "claim", "rule", "page"


def documents(catalogue: Catalogue) -> list[dict]:
    """All documents, as search.js reads them, with the address `href` of each."""
    claims = [_claim(claim) for module in modules() for claim in claims_of(module)]
    return [*map(_entry, catalogue.cases), *claims, *(_rule(clause, catalogue) for clause in CLAUSES), _OF_MODELS]


def _entry(case: EdgeCase):
    words = ENTRIES.get(case.id)
    return {
        "id": case.id,
        "kind": ENTRY,
        "href": f"#{case.id}",
        "title": _plain(case.title),
        "symptom": words.symptom if words else "",
        "aliases": words.aliases if words else (),
        "text": _plain(f"{case.trigger} {case.instead}"),
        "modules": " ".join(case.modules),
        "place": place(case.id),
    }


def _claim(claim):
    words = CLAIMS.get(claim.id)
    return {
        "id": claim.id,
        "kind": CLAIM,
        "href": f"claims.html#{claim.id}",
        "title": _plain(claim.says),
        "symptom": _plain(f"{claim.verdict[0].upper()}{claim.verdict[1:]}."),
        "aliases": words.aliases if words else (),
        "text": _plain(claim.because),
        "place": 0,
    }


def _rule(clause, catalogue):
    return {
        "id": f"clause-{clause.number}",
        "kind": RULE,
        "href": f"specification.html#clause-{clause.number}",
        "title": f"Clause {clause.number}: {clause.title}",
        "symptom": "",
        "aliases": (f"clause {clause.number}",),
        "text": _plain(catalogue.clauses[clause.number]),
        "place": 60,
    }


_OF_MODELS = {
    "id": "public-models",
    "kind": PAGE,
    "href": "doctor.html#public-models",
    "title": "Public models, and your own: what the doctor finds",
    "symptom": "Every attention that a model computes is compared with the specification.",
    "aliases": OF_MODELS.aliases,
    "text": "",
    "modules": "",
    "place": 50,
}


def _plain(text):
    return " ".join(text.replace("`", "").split())
