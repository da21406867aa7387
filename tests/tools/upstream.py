"""What is known upstream: when releases came out, when threads were opened, and which release users say broke what.

Looked up by hand (the queries are in docs/upstream.md). A day that could not be established is left out.
"""

RELEASED = {
    "2.1": "2023-10-04",
    "2.2": "2024-01-30",
    "2.3": "2024-04-24",
    "2.4": "2024-07-24",
    "2.5": "2024-10-17",
    "2.6": "2025-01-30",
    "2.7": "2025-04-23",
    "2.8": "2025-08-06",
    "2.9": "2025-10-15",
    "2.10": "2026-01-21",
    "2.12": "2026-05-13",
}

# Of pytorch/pytorch. regression: the first release that has it. seen: what the run on the day says of it.
THREADS = {
    "41508": {"opened": "2020-07-16"},
    "92554": {"opened": "2023-01-18"},
    "97111": {"opened": "2023-03-19"},
    "97128": {"opened": "2023-03-20"},
    "97532": {"opened": "2023-03-24"},
    "107084": {"opened": "2023-08-12"},
    "115472": {"opened": "2023-12-09"},
    "118628": {"opened": "2024-01-30"},
    "127055": {"opened": "2024-05-24"},
    "128816": {"opened": "2024-06-17"},
    "131254": {"opened": "2024-07-19"},
    "132136": {"opened": "2024-07-30"},
    "178677": {"opened": "2026-03-28"},
    "187801": {"opened": "2026-06-21"},
}
