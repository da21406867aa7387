"""What is known upstream: when threads were opened, and which releases brought the regressions that users reported.

Looked up by hand; see docs/upstream.md for the queries.
"""

RELEASED = {}

THREADS = {}
