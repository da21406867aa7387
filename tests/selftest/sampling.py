"""Reproducible samples of strategies."""

from hypothesis import HealthCheck, Phase, given, settings

# Some calls, each of which takes long; those that fail are told as they are found.
FEW = settings(
    max_examples=100,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def sample(strategy, number):
    """`number` cases drawn from the strategy: the same in every run, so that tests do not depend on luck."""
    cases = []

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much],
    )
    @given(strategy)
    def collect(case):
        cases.append(case)

    collect()
    return cases
