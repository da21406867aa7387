"""How many structures a test draws, as a share of the profile's number: calls differ in what they cost and can show."""

from hypothesis import settings


def share(factor, least=1):
    """The settings of a test that draws `factor` times as many structures as the profile says, but so many at least."""
    return settings(max_examples=max(least, round(factor * settings.default.max_examples)))
