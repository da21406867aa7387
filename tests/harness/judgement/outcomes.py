"""The outcomes of a call with a wrong mask, and their words."""

RAISES = "raises"
UNHELPFUL = "raises unhelpfully"  # without the name of the mask
ACCEPTS = "accepts"


def outcome_in_words(outcome: str, message: str) -> str:
    """As "is accepted" or "raises ValueError: no": an outcome and the first line of its error, which may be empty."""
    if outcome == ACCEPTS:
        return "is accepted"
    return f"raises an error that does not name it: {message}" if outcome == UNHELPFUL else f"raises {message}"
