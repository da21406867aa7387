"""The order of the tests: those that find most for their time come first, compiled calls last."""

from collections.abc import Sequence
from typing import TypeVar

Test = TypeVar("Test")

# The files of tests/conformance by the CPU time of their tests on 2.15, except that modes come last.
FILES = (
    "test_clauses.py",
    "test_ledger.py",
    "test_generate_square_subsequent_mask.py",
    "test_wrong_masks.py",
    "test_scaled_dot_product_attention.py",
    "test_flex_attention.py",
    "test_hidden_content.py",
    "test_multihead_attention.py",
    "test_low_precision.py",
    "test_equivalences.py",
    "test_transformer.py",
    "test_modes.py",
)


def place(file: str, is_slow: bool) -> tuple[bool, int]:
    """The key by which tests are sorted. file: its name. is_slow: True if the test compiles, or starts a process."""
    return is_slow, FILES.index(file) if file in FILES else 0


def dealt(tests: Sequence[Test], workers: int) -> list[Test]:
    """The tests in blocks, one for each worker, so that all workers begin with the first tests.

    pytest-xdist hands each worker one block of neighbouring tests, and moves tests later.
    """
    return [test for start in range(workers) for test in tests[start::workers]]
