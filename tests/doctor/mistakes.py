"""Mistakes of the caller that no rule forbids."""

from collections.abc import Iterator
from dataclasses import dataclass

from .calls import Made


@dataclass(frozen=True)
class Mistake:
    """A call that is allowed, and hardly meant."""

    id: str
    says: str  # a sentence
    remedy: str  # an imperative sentence


def mistakes_of(made: Made) -> Iterator[Mistake]:
    """The mistakes in one call."""
    yield from ()
