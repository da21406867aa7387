"""A Hypothesis backend that draws each case independently, and each value of a table equally often.

Hypothesis by itself also tries variants of a drawn case, with parts copied from one place to another. This pays if
coincidences are rare. Here the strategies draw the coincidences that matter, and a variant costs as much as a new case.
"""

from typing import Any

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

INDEPENDENT = "independent"  # settings(backend=INDEPENDENT)


class Independent(HypothesisProvider):
    """Draws uniform integers; Hypothesis by itself prefers small integers and bounds. Shrinking is unchanged."""

    def draw_integer(self, min_value: int | None = None, max_value: int | None = None, **how: Any) -> int:
        """A uniform integer; without both bounds, Hypothesis's own choice."""
        if min_value is None or max_value is None:
            return super().draw_integer(min_value, max_value, **how)
        assert self._random is not None
        return self._random.randint(min_value, max_value)


AVAILABLE_PROVIDERS[INDEPENDENT] = f"{__name__}.{Independent.__name__}"
