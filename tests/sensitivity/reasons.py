"""Why a test stays that notices no fault alone, by file and name."""

_LAW = "it compares torch with torch, so that it holds even where the reference should be wrong"
_EXACT = "it is exact to the last bit, where others allow an error"
_DROPOUT = "dropout is random: no other test compares results under it"

REASONS = {
    "test_equivalences.py::test_same_result_for": _LAW,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit": _EXACT,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit_under_dropout": _DROPOUT,
    "test_hidden_content.py::test_dropped_weights_are_zero_or_scaled_and_hidden_ones_stay_zero": _DROPOUT,
    "test_generate_square_subsequent_mask.py::test_is_of_the_dtype_that_is_asked_for": "no other test asks for a dtype",
    "test_ledger.py::test_pinned_case_does_what_the_ledger_says": "it measures the range of each entry",
    "test_wrong_masks.py::test_known_deviation_is_where_the_ledger_says": "it measures the range of each entry",
}
