"""Finds code in text and marks it up, for both pages. Code stands between backticks or looks like Python."""

import html
import re

from markupsafe import Markup

_ARGUMENTS = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_SIZE = r"(?:\.\.\.|any|[A-Z0-9]\w*(?: \* \w+)?)"
_NAME = r"\*?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_CODE = re.compile(
    rf"`(?P<marked>[^`]+)`"
    rf"|(?P<found>{_NAME}{_ARGUMENTS}|(?<!\w){_NAME}=[\w.]*\w|(?<![\w.]){_NAME}\[\w+\]"
    rf"|\b(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w+)+|\w*[A-Za-z]_\w+)\b|\({_SIZE}(?:, {_SIZE})+\))"
)


def split_code(text: str) -> list[tuple[bool, str]]:
    """[(True if the part is code, part)] of a text, without the backticks."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [(False, text[end : found.start()]), (True, found["marked"] or found["found"])]
        end = found.end()
    return [(is_code, part) for is_code, part in [*parts, (False, text[end:])] if part]


def as_markdown(text: str) -> str:
    """The text as Markdown, with code between backticks and special characters escaped."""
    return "".join(
        f"`{part}`" if is_code else re.sub(r"([*<\[|])", r"\\\1", part) for is_code, part in split_code(text)
    )


def as_html(text: str) -> Markup:
    """The text as HTML, with code in code elements and special characters escaped."""
    parts = ((is_code, html.escape(part)) for is_code, part in split_code(text))
    return Markup("".join(f"<code>{_breakable(part)}</code>" if is_code else part for is_code, part in parts))


def _breakable(code):
    """The code with a <wbr> behind each dot and opening bracket, so that a narrow screen can break long names."""
    return re.sub(r"([.(])(?=\w)", r"\1<wbr>", code)
