"""Reasons to keep the tests that notice no fault alone, by "file::name"."""

_LAW = "it compares torch with torch, so it does not depend on the reference"
_EXACT = "it compares to the last bit; other tests allow an error"
_DROPOUT = "all its calls return weights under dropout; few calls of other tests do"

_MOST = (
    "it makes most of the calls of its modules; the tests of laws and modes draw fewer calls, from the same generator"
)
_NAN = "only the pinned case of flash-nan-query-zero has a NaN in a query as well, and it notices the same faults"

_STATES = "it names a clause by its simplest calls, which other tests make, too"

REASONS = {
    "test_ledger.py::test_calls_near_a_pinned_case": "the campaign is older than this test, whose first runs alone"
    " noticed two errors of the ledger: of a query of NaN in bfloat16, and of a key with steps in memory",
    "test_clauses.py::test_holds": _STATES,
    "test_equivalences.py::test_same_result_for": _LAW,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit": _EXACT,
    "test_hidden_content.py::test_hidden_content_does_not_change_a_bit_under_dropout": _EXACT,
    "test_hidden_content.py::test_dropped_weights_are_zero_or_scaled_and_hidden_ones_stay_zero": _DROPOUT,
    "test_generate_square_subsequent_mask.py::test_is_of_the_dtype_and_device_given_or_the_defaults": "no other test"
    " asks for a dtype",
    "test_generate_square_subsequent_mask.py::test_hides_the_future_and_nothing_else": "it checks every element; the"
    " test of dtypes notices the same faults",
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
    "test_wrong_masks.py::test_wrong_masks_are_errors_that_name_them": "no other test gives a wrong mask",
    "test_modes.py::test_every_kind_of_mask_on_every_path": "no other test is certain to try every kind of mask on"
    " every path in each mode",
    "test_flex_attention.py::test_output_and_log_sum_exp_are_as_specified": "no other test draws calls of"
    " flex_attention with gradients; the campaign ended at the first test",
    "test_flex_attention.py::test_inference_is_as_specified": "no other test draws blocks of queries and keys in calls"
    " without gradients; the campaign ended at the first test",
    "test_flex_attention.py::test_compiled_is_as_specified": "no other test compiles flex_attention; faults are put"
    " into its eager code",
    "test_flex_attention.py::test_same_result_for": "a law needs no reference; the campaign ended at the first test",
    "test_modes.py::test_is_as_specified_in_few_calls": "each of its modes is much alike one of test_is_as_specified,"
    " which notices most faults of both",
    "test_modes.py::test_is_as_specified_when_sharded": "no other test draws modules whose parameters are sharded; most"
    " faults show in other modes, too",
    "test_modes.py::test_is_as_specified_when_written_by_hand": "no other test draws attention written by hand; four"
    " pinned cases notice the same faults",
    "test_modes.py::test_is_as_specified_when_built": "no other test builds the compiled artifact of every module; the"
    " quick profile, which notices most faults, builds none",
    "test_ledger.py::test_pinned_case_does_what_the_ledger_says": "it measures the range of each entry",
    "test_wrong_masks.py::test_known_deviation_is_where_the_ledger_says": "it measures the range of each entry",
}
