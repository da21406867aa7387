"""`python -m tests.tools benchmark [STRUCTURES]` prints calls per second, and the share of CPU time inside torch.

The share is a ratio of two times of one run, so a noisy machine changes it little.
"""

import sys
import time

from hypothesis import HealthCheck, Phase, given, settings

from tests.harness.command_line import Parser
from tests.harness.measurement import session
from tests.harness.measurement.checking import check_contents
from tests.harness.strategies.modules import MODULES, cases_of


def measure(module: str, structures: int) -> tuple[int, float, float]:
    """(number of calls, CPU seconds, seconds inside torch) for a module.

    structures: number of structures to draw; half of them are drawn for inference.
    """
    run = session.current
    run.tally = session.Tally()
    started = time.process_time()
    for inference in (False, True):

        @settings(
            max_examples=structures // 2,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(case=cases_of(run.release, module, inference))
        def judge_all(case):
            check_contents(case)

        judge_all()
    return sum(run.tally.cases.values()), time.process_time() - started, run.tally.seconds_in_torch


def main(arguments: list[str]) -> None:
    """Print one line for each module and one for all modules."""
    parser = Parser(
        prog="python -m tests.tools benchmark", description="Calls per second, and the share of CPU time inside torch."
    )
    parser.add_argument(
        "structures",
        type=int,
        nargs="?",
        default=200,
        help="number of structures to draw for each module (default: 200)",
    )
    structures = parser.parse_args(arguments).structures
    release = session.start().release
    modules = [*MODULES, *(["scaled_dot_product_attention"] if release.has_scaled_dot_product_attention else [])]
    print(f"torch {release.version}, {structures} structures per module")
    print(f"{'module':32} {'calls':>6} {'calls/s':>8} {'in torch':>9}")
    total = [0, 0.0, 0.0]
    for module in modules:
        measure(module, 20)  # the first use imports and compiles
        result = measure(module, structures)
        total = [a + b for a, b in zip(total, result, strict=True)]
        print(_line(module, *result))
    print(_line("all", *total))


def _line(name, calls, seconds, in_torch):
    return f"{name:32} {calls:6} {calls / seconds:8.0f} {in_torch / seconds:9.0%}"


if __name__ == "__main__":
    main(sys.argv[1:])
