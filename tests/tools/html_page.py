"""Renders the catalogue as docs/index.html, a page with filters and a search, from the template catalogue.html."""

from pathlib import Path

import jinja2

from tests.harness.measurement.session import PRESENT

from . import runs, ways
from .code_in_text import as_html
from .edge_cases import GONE, Catalogue


def to_html(catalogue: Catalogue, command: str) -> str:
    """The text of docs/index.html. command: the command that writes the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = as_html
    environment.filters["slug"] = lambda words: words.replace(" ", "-")
    template = environment.get_template("catalogue.html")
    return template.render(catalogue=catalogue, command=command, runs=runs, ways=ways, PRESENT=PRESENT, GONE=GONE)
