"""What people say about masks, as data: the page docs/claims.md is written from it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim stands in a test file, beside its recipe and its tests.

    says: the claim. verdict: "true", "false" or "true if ...". because: the reason, with the figures that the tests
    assert. recipe: what to write instead; its source is printed, and the tests call it. proof: names of the tests,
    in the same file.
    """

    id: str
    says: str
    verdict: str
    because: str
    recipe: tuple[Callable, ...]
    proof: tuple[str, ...]
