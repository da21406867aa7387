"""The number of examples of a test, as a share of the profile's number: calls differ in cost and in use."""

from hypothesis import settings


def share(factor: float, least: int = 1) -> settings:
    """Settings with `factor` times the max_examples of the profile, but no fewer than `least`."""
    assert settings.default is not None
    return settings(max_examples=max(least, round(factor * settings.default.max_examples)))
