"""What strategies draw."""

from hypothesis import HealthCheck, Phase, given, settings


def sample(strategy, number):
    """Cases that the strategy draws, always the same ones: a reach is a fact, not a matter of luck."""
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
