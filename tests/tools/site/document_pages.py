"""`python -m tests.tools site [--check]` writes the pages of the site that are made of Markdown: docs/claims.html, ...

--check writes nothing, and exits with 1 if a page is stale. It needs markdown-it-py, which only the environment `docs`
installs.
"""

import os
import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from tests.harness.command_line import Parser

from .html_page import environment

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
COMMAND = "python -m tests.tools site"
# {page in docs: the Markdown that it is made of}
PAGES = {
    "claims.html": DOCS / "claims.md",
    "ask.html": DOCS / "ask.md",
    "doctor.html": DOCS / "doctor.md",
    "specification.html": ROOT / "reference" / "README.md",
    "upstream.html": DOCS / "upstream.md",
    "adopters.html": DOCS / "adopters.md",
}
_INSTEAD = {path: name for name, path in PAGES.items()} | {DOCS / "edge-cases.md": "index.html"}


def page(name: str) -> str:
    """The text of a page. name: a key of PAGES."""
    path = PAGES[name]
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = markdown.parse(path.read_text())
    title, contents = "", []
    for token, inner in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open":
            words = "".join(child.content for child in inner.children if child.type in ("text", "code_inline"))
            token.attrSet("id", slug(words))
            title = title or words
            contents += [(slug(words), words)] * (token.tag == "h2")
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _address(child.attrGet("href"), path))
    text = _framed(markdown.renderer.render(tokens, markdown.options, {}))
    if name == "specification.html":
        text = re.sub(r"<tr>\n<td>(\d+)</td>", r'<tr id="clause-\1">\n<td>\1</td>', text)
    source = os.path.relpath(path, DOCS)
    head, end, body = text.partition("</h1>")
    template = environment().get_template("document.html")
    return template.render(
        body=Markup(body),
        command=COMMAND,
        contents=contents,
        head=Markup(head + end),
        here=name,
        page_title=title,
        source=source,
    )


def slug(words: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def _address(address, path):
    """A link of the Markdown as one from docs, to a page of the site if there is one."""
    if re.match(r"[a-z]+:|#", address):
        return address
    target, hash, anchor = address.partition("#")
    resolved = (path.parent / target).resolve()
    return _INSTEAD.get(resolved, os.path.relpath(resolved, DOCS)) + hash + anchor


def _framed(text):
    """The HTML with a frame around each table, which scrolls, and around each block of code."""
    text = text.replace("<th></th>", "<td></td>")  # a corner without words heads nothing
    text = re.sub(r"<table>", '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>', text)
    text = text.replace("</table>", "</table></div>")
    text = re.sub(r'<pre><code(?: class="language-\w+")?>', '<div class="block"><pre tabindex="0"><code>', text)
    return text.replace("</code></pre>", "</code></pre></div>")


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write the pages of the site that are made of Markdown.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    options = parser.parse_args(arguments)
    texts = {DOCS / name: page(name) for name in PAGES}
    stale = [path for path, text in texts.items() if not (path.is_file() and path.read_text() == text)]
    if options.check and stale:
        print(f"stale: {', '.join(map(str, stale))}; run {COMMAND}", file=sys.stderr)
        return 1
    for path in stale:
        path.write_text(texts[path])
    return 0
