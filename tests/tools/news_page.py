"""Renders the news of a run as one HTML page that needs no other file."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from .news import CODE, MEANINGS, Told, facts, headline

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { margin: 2.5rem 0 0; } h2 small { font-weight: normal; }
nav a { margin-right: 1.2rem; }
article { border: 1px solid var(--line); border-left: .4rem solid var(--tone); border-radius: .4rem; margin: 1rem 0;
  padding: .2rem 1rem 1rem; }
article h3 { font-size: 1.05rem; overflow-wrap: anywhere; }
.new { --tone: #d33; } .wider-or-back { --tone: #e80; } .gone-or-narrower { --tone: #2a6; }
.suspected-flaky { --tone: #88a; }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .2rem 1rem; margin: 0; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .86rem/1.45 ui-monospace, monospace; background: var(--soft); border-radius: .2rem; }
code { padding: .1rem .3rem; } pre { padding: .8rem; overflow-x: auto; max-height: 30rem; }
details { margin-top: .7rem; } summary { cursor: pointer; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""


def as_html(told: Told, folder: Path = Path()) -> Iterator[str]:
    """Generates the lines of the page. folder: the folder to which the paths of scripts are relative."""
    title = escape(f"{told.title}: {told.counts}")
    yield '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>"
    yield f"<h1>{escape(told.title)}</h1>"
    sections = list(told.sections())
    links = "".join(f'<a href="#{_slug(name)}">{len(numbered)} {name}</a>' for name, numbered in sections)
    yield f"<nav>{links or 'Nothing changed.'}</nav>\n<p>{escape(told.as_before)}</p>"
    for section, numbered in sections:
        yield f'<h2 id="{_slug(section)}">{section} <small>({len(numbered)})</small></h2>\n<p>{MEANINGS[section]}</p>'
        for number, news in numbered:
            yield f'<article class="{_slug(section)}" id="change-{number}">'
            yield f"<h3>{number}. {escape(headline(news))}</h3>\n<dl>"
            yield from (f"<dt>{name}</dt><dd>{_shown(name, value)}</dd>" for name, value in facts(news, told).items())
            yield "</dl>"
            yield from _issue(folder / news.folder / "issue.md") if news.folder else ()
            yield "</article>"
    yield "</html>"


_LONGEST = 40_000  # characters of an issue text that the page holds; the script of a large call has more


def _issue(path):
    """Generates the issue text, which holds the script."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}\n... {len(text) - _LONGEST:,} more characters: {path}"
    if text:
        yield f"<details><summary>Issue draft, with the script</summary><pre>{escape(text)}</pre></details>"


def _shown(name, value):
    if name == "upstream":
        return ", ".join(map(_link, value.split(", ")))
    return f"<code>{escape(value)}</code>" if name in CODE else escape(value)


def _link(thread):
    """A link to a thread such as "pytorch/pytorch#123"."""
    repository, _, number = thread.partition("#")
    if not number.isdigit():
        return escape(thread)
    return f'<a href="https://github.com/{escape(repository)}/issues/{number}">{escape(thread)}</a>'


def _slug(section):
    return section.replace(" ", "-")
