"""Why a test stays that notices no fault alone, by file and name."""

REASONS = {}
