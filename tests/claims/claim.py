"""Claims about attention masks as plain data: docs/claims.md is written from them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One claim, declared in a test file together with its recipe and its tests."""

    id: str  # anchor on the page
    says: str  # the claim, in Markdown
    verdict: str  # begins with "true" or "false": "true", "false", "true if ..."
    because: str  # the reason, in Markdown, with the figures that the tests assert
    recipe: tuple[Callable, ...]  # functions and classes that do it right; the page prints them, the tests call them
    proof: tuple[str, ...]  # names of the tests, in the same file
    table: tuple[tuple[str, ...], ...] = ()  # rows of Markdown below the reason, the first with the heads
