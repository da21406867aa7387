"""Why a test stays that notices no fault alone, by file and name."""

_LAW = "it compares torch with torch, so that it holds even where the reference should be wrong"
_EXACT = "it is exact to the last bit, where others allow an error"
_DROPOUT = "each of its calls returns weights under dropout, which few of the others do"

_MOST = "most of the calls of its modules are its, of which laws and modes make fewer, drawn from the same generator"
_NAN = (
    "no other test has a NaN in a query but for the pinned case of flash-nan-query-zero, which notices the same faults"
)

_STATES = "it names a clause by its simplest calls, which other tests make, too"

REASONS = {
    "test_clauses.py::test_holds": _STATES,
    "test_equivalences.py::test_same_result_for": _LAW,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit": _EXACT,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit_under_dropout": _EXACT,
    "test_hidden_content.py::test_dropped_weights_are_zero_or_scaled_and_hidden_ones_stay_zero": _DROPOUT,
    "test_generate_square_subsequent_mask.py::test_is_of_the_dtype_and_device_given_or_the_defaults": "no other test"
    " asks for a dtype",
    "test_generate_square_subsequent_mask.py::test_hides_the_future_and_nothing_else": "it looks at every element, and"
    " what it notices the test of dtypes notices as well",
    "test_hidden_content.py::test_hidden_content_may_be_nan": "no other test hides NaN or inf",
    "test_multihead_attention.py::test_inference_is_as_specified": _MOST,
    "test_multihead_attention.py::test_training_and_other_calls_are_as_specified": _MOST,
    "test_multihead_attention.py::test_functional_form_is_as_specified": _MOST,
    "test_multihead_attention.py::test_a_query_that_is_nan_spoils_its_own_row": _NAN,
    "test_scaled_dot_product_attention.py::test_inference_is_as_specified": _MOST,
    "test_scaled_dot_product_attention.py::test_output_and_gradients_are_as_specified": _MOST,
    "test_scaled_dot_product_attention.py::test_a_query_that_is_nan_spoils_its_own_row": _NAN,
    "test_transformer.py::test_inference_is_as_specified": _MOST,
    "test_transformer.py::test_training_and_other_calls_are_as_specified": _MOST,
    "test_wrong_masks.py::test_wrong_masks_are_errors_that_name_them": "no other test gives a wrong mask: two of its"
    " ways notice each of these faults, so that none does alone",
    "test_modes.py::test_every_kind_of_mask_on_every_path": "no other test is sure to come by all of them in each mode",
    "test_modes.py::test_is_as_specified_when_built": "no other test builds what is compiled of every module; the"
    " quick profile, by which most faults are noticed, builds nothing",
    "test_ledger.py::test_pinned_case_does_what_the_ledger_says": "it measures the range of each entry",
    "test_wrong_masks.py::test_known_deviation_is_where_the_ledger_says": "it measures the range of each entry",
}
