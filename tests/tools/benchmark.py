"""`python -m tests.tools benchmark [CASES]`: calls a second, and the share of the CPU time that is spent inside torch.

The share is a ratio within one run, so that a noisy machine does not matter much to it.
"""

import sys
import time

from hypothesis import HealthCheck, Phase, given, settings

from tests.harness.command_line import Parser
from tests.harness.measurement import session
from tests.harness.measurement.checking import check_contents
from tests.harness.strategies.modules import MODULES, cases_of


def measure(module, structures):
    """(calls, CPU seconds, seconds inside torch) of so many drawn structures, half of them as one infers."""
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


def main(arguments):
    """Print a line for each module and one for all."""
    parser = Parser(
        prog="python -m tests.tools benchmark", description="Calls per second, and the share of CPU time inside torch."
    )
    parser.add_argument("structures", type=int, nargs="?", default=200, help="drawn for each module (default: 200)")
    structures = parser.parse_args(arguments).structures
    release = session.start().release
    modules = [*MODULES, *(["scaled_dot_product_attention"] if release.has_scaled_dot_product_attention else [])]
    print(f"torch {release.version}, {structures} structures a module")
    print(f"{'module':32} {'calls':>6} {'calls/s':>8} {'in torch':>9}")
    total = [0, 0.0, 0.0]
    for module in modules:
        measure(module, 20)  # what is imported and compiled at first use
        result = measure(module, structures)
        total = [a + b for a, b in zip(total, result, strict=True)]
        print(_line(module, *result))
    print(_line("all", *total))


def _line(name, calls, seconds, in_torch):
    return f"{name:32} {calls:6} {calls / seconds:8.0f} {in_torch / seconds:9.0%}"


if __name__ == "__main__":
    main(sys.argv[1:])
