"""Renders the catalogue as docs/index.html, a page with a search and filters, from the template index.html."""

import json
from pathlib import Path

import jinja2

from .. import runs, ways
from ..code_in_text import as_html
from ..edge_cases import Catalogue
from ..paths_in_words import MEANINGS
from ..remedied import specifier_in_words
from .example import IMPORTS
from .facets import EVAL, GRAD, MASKS, NO_GRAD, TRAIN
from .index import documents

NAV = (
    ("index.html", "Edge cases"),
    ("claims.html", "Claims"),
    ("ask.html", "Your call"),
    ("doctor.html", "Your model"),
    ("specification.html", "Specification"),
    ("upstream.html", "Upstream"),
    ("adopters.html", "Adopters"),
    ("../README.md", "The suite"),
)
# Queries that the page proposes.
PROPOSED = ("nan in eval", "src_mask", "fully masked", "alibi", "-1e9", "is_causal kv cache", "fullgraph padding")


def environment() -> jinja2.Environment:
    """The environment of all templates of the site."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["code"] = as_html
    made.filters["slug"] = lambda words: words.replace(" ", "-")
    made.filters["specifier"] = specifier_in_words
    made.globals["nav"] = NAV
    return made


def to_html(catalogue: Catalogue, command: str, works: str = "") -> str:
    """The text of docs/index.html. command: the command that writes the page. works: the text of what-works.json."""
    kinds = [kind for kind, _ in catalogue.groups]
    filters = (
        ("modules", "Module", [(value, value) for value in catalogue.values("modules")]),
        ("training", "Mode", [(TRAIN, "train()"), (EVAL, "eval()")]),
        ("autograd", "Gradients", [(GRAD, "recorded"), (NO_GRAD, "no_grad, inference")]),
        ("masks", "Kind of mask", list(MASKS.items())),
        ("devices", "Device", [(value, value) for value in catalogue.devices]),
        ("kind", "Effect", [(kind.key, kind.title) for kind in kinds]),
    )
    text = json.dumps(documents(catalogue), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        environment()
        .get_template("index.html")
        .render(
            catalogue=catalogue,
            command=command,
            documents=text,
            examples=PROPOSED,
            filters=filters,
            here="index.html",
            imports=IMPORTS.strip(),
            meanings=MEANINGS,
            runs=runs,
            ways=ways,
            works=_table(json.loads(works)) if works else None,
        )
    )


def _table(works):
    """The table of what works, with its cells by module, mask and setting."""
    table = {module: {mask: {} for mask in works["masks"]} for module in works["modules"]}
    for cell in works["cells"]:
        table[cell["module"]][cell["mask"]][cell["setting"]] = cell
    return works | {"table": table}
