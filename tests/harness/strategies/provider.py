"""How Hypothesis draws here: each case for itself, and each value of a table as often as any other.

By itself it tries many variants of what it has drawn, with parts copied from one place to another. That pays where a
coincidence is hard to come by. Here the strategies make those that matter, and a copy costs as much as another case.
"""

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

INDEPENDENT = "independent"  # settings(backend=INDEPENDENT)


class Independent(HypothesisProvider):
    """Uniform integers; by itself Hypothesis draws small ones and bounds more often. It shrinks as it always does."""

    def draw_integer(self, min_value=None, max_value=None, **how):
        if min_value is None or max_value is None:
            return super().draw_integer(min_value, max_value, **how)
        return self._random.randint(min_value, max_value)


AVAILABLE_PROVIDERS[INDEPENDENT] = f"{__name__}.{Independent.__name__}"
