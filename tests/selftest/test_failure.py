"""The description of a failure is true of the call, and as plain data it can be read back."""

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.vendor.pretty import pretty

from tests.harness.cases.case import MultiHead, ScaledDotProduct, SquareSubsequentMask, Transformer
from tests.harness.cases.laws import LAWS
from tests.harness.cases.masks import Mask, Merged
from tests.harness.contents.results import present
from tests.harness.execution.runner import Observation, observe
from tests.harness.expectation.specification import specification
from tests.harness.judgement import comparison
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.positions import FULLY_MASKED, HIDDEN_KEY, MASKED_IN_A_HEAD, PADDED, WITHOUT_KEYS
from tests.harness.judgement.positions import position as position_of
from tests.harness.judgement.report import Failure, crash, failure_of, grid, report
from tests.harness.judgement.verdict import FAILS, Verdict, judge
from tests.harness.judgement.wording import RULES
from tests.harness.measurement import session
from tests.harness.modes.parsing import parse
from tests.harness.strategies.contents import cases_under
from tests.harness.strategies.modules import any_cases
from tests.tools.edge_cases import read_clauses

RELEASE = session.start().release
SPECIFICATION = Path(__file__).parents[2] / "reference" / "README.md"
RAISED = Mismatch("error", None, "RuntimeError: no", kind=comparison.ERROR)


def failure(case, *mismatches, served=(), deviations=()):
    return failure_of(case, Observation(served=served), Verdict(FAILS, deviations, mismatches))


def through_json(told):
    return Failure.from_plain(json.loads(json.dumps(told.as_plain(), allow_nan=False)))


# ---- every case ----------------------------------------------------------------------------------------------------


def assert_can_be_told(case):
    told = failure(case, RAISED)
    assert parse(told.again.split('"')[1]) == case
    assert told.again in report(told)
    assert through_json(told) == told


@settings(max_examples=500, deadline=None, database=None)
@given(case=any_cases(RELEASE))
def test_every_case_is_told_and_run_again(case):
    assert_can_be_told(case)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.id)
def test_every_twin_is_told_and_run_again(law):
    @settings(max_examples=50, deadline=None, database=None)
    @given(case=cases_under(RELEASE, law))
    def told(case):
        for twin in law.twins(case):
            assert_can_be_told(twin)

    told()


@settings(max_examples=300, deadline=None, database=None)
@given(case=any_cases(RELEASE))
def test_every_element_of_every_result_has_a_place(case):
    """By its query, and of weights its key; none is told by its index alone."""
    results = present(case, specification(case)()) if case.attends else {}
    for name, array in results.items():
        for where in [tuple(size - 1 for size in array.shape), (0,) * array.ndim] if array.size else ():
            title = failure(case, Mismatch(name, 0.5, nan, where, 0.0, 1e-9, of=(name,))).title
            assert "query" in title
            assert "key" in title or name != "weights"
            assert "at [" not in title


# ---- exact texts ---------------------------------------------------------------------------------------------------

LAYER = Transformer(N=2, S=3, num_heads=2, head_dim=2, src_mask=Mask("bool", "row"))
PADDED_LAYER = replace(LAYER, src_mask=None, src_key_padding_mask=Mask("bool", "right"), seed=1)
ATTENTION = MultiHead(N=2, L=3, S=3, attn_mask=Mask("bool", "all"))
CAUSAL = MultiHead(L=2, S=2, attention="self", attn_mask=Mask("bool", "causal"))
SDPA = ScaledDotProduct(batch=(2, 2), L=2, S=2, is_causal=True)


def nan_at(*where, expected=0.5, name="output"):
    return Mismatch(name, expected, nan, where, 0.0, 1e-9, of=(name,))


def value(expected, got, *where, name="output", bound=1e-9):
    return Mismatch(name, expected, got, where, abs(expected - got), bound, of=(name,))


def other(kind, expected, got, *of, what="", where=None):
    return Mismatch(what or kind, expected, got, where, kind=kind, of=of)


TEXTS = [
    (
        LAYER,
        nan_at(1, 1, 0),
        "TransformerEncoderLayer, eval: output is NaN for the fully masked query 1 of sample 1;"
        " expected 0.5, from the projection's bias",
        4,
    ),
    (
        LAYER,
        nan_at(1, 0, 0),
        "TransformerEncoderLayer, eval: output is NaN for query 0 of sample 1, beside the fully masked query 1 of"
        " sample 0; expected 0.5",
        4,
    ),
    (
        replace(LAYER, training=True, mode="deepcopy", dtype="bfloat16", batch_first=False),
        nan_at(1, 0, 0),
        "TransformerEncoderLayer, mode deepcopy, train, bfloat16: output is NaN for the fully masked query 1 of"
        " sample 0; expected 0.5, from the projection's bias",
        4,
    ),
    (
        ATTENTION,
        nan_at(0, 2, 0),
        "MultiheadAttention, eval: output is NaN for the fully masked query 2 of sample 0;"
        " expected the projection's bias, 0.5",
        4,
    ),
    (
        ATTENTION,
        nan_at(0, 2, 0, expected=0.0),
        "MultiheadAttention, eval: output is NaN for the fully masked query 2 of sample 0; expected 0",
        4,
    ),
    (
        ATTENTION,
        nan_at(0, 2, 1, expected=0.0, name="weights"),
        "MultiheadAttention, eval: weight is NaN for the fully masked query 2 and key 1 of sample 0; expected 0",
        4,
    ),
    (
        replace(ATTENTION, S=0),
        nan_at(0, 2, 0),
        "MultiheadAttention, eval: output is NaN for query 2 of sample 0, which has no keys;"
        " expected the projection's bias, 0.5",
        4,
    ),
    (
        replace(ATTENTION, add_zero_attn=True),
        value(0.5, 0.0, 0, 2, 3, name="weights"),
        "MultiheadAttention, eval: weight is off by 0.5 for query 2 and the appended key 3 of sample 0;"
        " expected 0.5, got 0 (1e-09 is allowed)",
        7,
    ),
    (
        CAUSAL,
        value(0.0, 0.25, 0, 0, 1, name="weights", bound=0.0),
        "MultiheadAttention, eval: weight is not 0 for query 0 and the hidden key 1 of sample 0; expected 0, got 0.25",
        2,
    ),
    (
        CAUSAL,
        value(0.5, 0.500000001, 0, 1, 0),
        "MultiheadAttention, eval: output is off by 1e-09 for query 1 of sample 0;"
        " expected 0.5, got 0.500000001 (1e-09 is allowed)",
        2,
    ),
    (
        replace(CAUSAL, batched=False, attn_mask=Mask("float", "causal", "finite")),
        value(0.5, 0.75, 1, 0),
        "MultiheadAttention, eval: output is off by 0.25 for query 1; expected 0.5, got 0.75 (1e-09 is allowed)",
        2,
    ),
    (
        PADDED_LAYER,
        value(0.5, 0.0, 0, 2, 0),
        "TransformerEncoderLayer, eval: output is off by 0.5 for the padded query 2 of sample 0;"
        " expected 0.5, got 0 (1e-09 is allowed)",
        8,
    ),
    (
        SDPA,
        value(0.5, 0.75, 1, 0, 1, 0),
        "scaled_dot_product_attention: output is off by 0.25 for query 1 of sample 1, head 0;"
        " expected 0.5, got 0.75 (1e-09 is allowed)",
        6,
    ),
    (
        replace(PADDED_LAYER, nonfinite="nan", autograd="inputs"),
        nan_at(0, 0, 0),
        "TransformerEncoderLayer, eval: output is NaN for query 0 of sample 0, where hidden positions hold NaN;"
        " expected 0.5",
        5,
    ),
    (
        LAYER,
        other(comparison.ERROR, None, "RuntimeError: no\nmore of it"),
        "TransformerEncoderLayer, eval: raises RuntimeError: no; expected a result",
        3,
    ),
    (
        replace(LAYER, src_is_causal=True, src_mask=None),
        other(comparison.ERROR, "RuntimeError: hint", None),
        "TransformerEncoderLayer, eval: returns a result; expected an error: RuntimeError: hint",
        6,
    ),
    (
        LAYER,
        other(comparison.WARNING, None, "it is slow"),
        'TransformerEncoderLayer, eval: warns "it is slow"; expected no warning',
        10,
    ),
    (
        LAYER,
        other(comparison.MUTATED, "unchanged", "changed", "src_mask"),
        "TransformerEncoderLayer, eval: changes its argument src_mask; expected it unchanged",
        10,
    ),
    (
        LAYER,
        other(comparison.SETTING, "unchanged", "changed", "self_attn.training"),
        "TransformerEncoderLayer, eval: changes the setting self_attn.training; expected it unchanged",
        10,
    ),
    (
        LAYER,
        other(comparison.PATH, "none of the fast paths, which are switched off", "native_encoder_layer"),
        "TransformerEncoderLayer, eval: takes the path native_encoder_layer; expected none of the fast paths, which are"
        " switched off",
        10,
    ),
    (
        LAYER,
        other(comparison.ATTACHED, "False", "True", "output"),
        "TransformerEncoderLayer, eval: output requires a gradient; expected none, as autograd records nothing",
        10,
    ),
    (
        LAYER,
        other(comparison.SHAPE, (2, 3, 4), (2, 2, 4), "output"),
        "TransformerEncoderLayer, eval: output has shape (2, 2, 4); expected (2, 3, 4)",
        8,
    ),
    (
        LAYER,
        other(comparison.DTYPE, "float32", "float64", "output"),
        "TransformerEncoderLayer, eval: output has dtype float64; expected float32",
        3,
    ),
    (
        SquareSubsequentMask(sz=2),
        other(comparison.DEVICE, "meta", "cpu", "output"),
        "generate_square_subsequent_mask: output has device cpu; expected meta",
        6,
    ),
    (
        SquareSubsequentMask(sz=2),
        value(0.0, 1.0, 0, 1),
        "generate_square_subsequent_mask: output is off by 1 at [0, 1]; expected 0, got 1 (1e-09 is allowed)",
        6,
    ),
    (
        replace(CAUSAL, autograd="grad"),
        Mismatch("", 1.5, 2.0, None, 0.5, 1e-9, comparison.GRADIENT, ("query", "in_proj_weight")),
        "MultiheadAttention, eval: gradient of query and in_proj_weight is off by 0.5 in a drawn direction;"
        " expected 1.5, got 2 (1e-09 is allowed)",
        2,
    ),
    (
        replace(CAUSAL, autograd="mask", attn_mask=Mask("float", "causal", "finite")),
        Mismatch("", 1.5, 0.0, None, 1.5, 1e-9, comparison.GRADIENT, ("attn_mask",)),
        "MultiheadAttention, eval: gradient of attn_mask is off by 1.5 in a drawn direction;"
        " expected 1.5, got 0 (1e-09 is allowed)",
        5,
    ),
    (
        MultiHead(S=2, key_padding_mask=Mask("bool", "right"), autograd="grad"),
        other(comparison.LEAK, 0.0, 0.25, "key", where=(0, 1, 0)),
        "MultiheadAttention, eval: gradient of key is not 0 for the hidden key 1 of sample 0; expected 0, got 0.25",
        5,
    ),
    (
        replace(PADDED_LAYER, autograd="inputs"),
        other(comparison.GRADIENT, 0.5, nan, "src", where=(0, 2, 0)),
        "TransformerEncoderLayer, eval: gradient of src is NaN for the hidden position 2 of sample 0; expected 0.5",
        5,
    ),
    (
        CAUSAL,
        other(comparison.CONTENT, 0.5, 0.75, "output", where=(0, 1, 0)),
        "MultiheadAttention, eval: output changes for query 1 of sample 0 with the content of hidden positions;"
        " expected 0.5, got 0.75",
        5,
    ),
    (
        replace(CAUSAL, training=True, dropout=0.5),
        other(comparison.DROPOUT, "3 times", "2 times", what="dropout"),
        "MultiheadAttention, train: dropout is 2 times; expected 3 times",
        7,
    ),
    (MultiHead(), value(0.5, 0.75, 0, 0, 0), None, 1),
]


@pytest.mark.parametrize(
    "case, mismatch, title, clause", TEXTS, ids=[f"{text[1].kind}-{i}" for i, text in enumerate(TEXTS)]
)
def test_the_first_line_stands_alone_and_the_clause_is_the_broken_one(case, mismatch, title, clause):
    told = failure(case, mismatch)
    assert title in (None, told.title)
    assert told.clauses == (clause,)
    first, *lines = report(told).splitlines()
    assert first == told.title
    assert [line.split()[1] for line in lines if line.startswith("Clause ")] == [str(clause)]
    assert through_json(told) == told


@pytest.mark.parametrize(
    "case, mismatch, title, clause", TEXTS, ids=[f"{text[1].kind}-{i}" for i, text in enumerate(TEXTS)]
)
def test_what_is_no_number_is_not_off(case, mismatch, title, clause):
    if isinstance(mismatch.got, float) and np.isnan(mismatch.got):
        assert " is off" not in report(failure(case, mismatch))
    assert "is off by 0 " not in report(failure(case, mismatch))


def test_every_rule_is_a_sentence_of_its_clause():
    clauses = read_clauses(SPECIFICATION.read_text())
    for number, sentence in RULES.values():
        for part in sentence.split(": ... "):
            assert part in clauses[number]
    assert {number for number, _ in RULES.values()} == set(clauses)


def test_what_the_ledger_predicts_is_called_that():
    told = failure(ATTENTION, value(nan, 0.5, 0, 0, 0), deviations=("empty-row-nan-explicit",))
    assert told.title.endswith(
        "output is a number for the fully masked query 0 of sample 0; the ledger expects NaN, got 0.5"
    )
    text = report(told)
    assert "Expected are the deviations that the ledger knows here: empty-row-nan-explicit." in text
    assert "Clause" not in text


def test_the_gravest_comes_first():
    warning, error = other(comparison.WARNING, None, "slow"), other(comparison.ERROR, None, "TypeError: no")
    told = failure(LAYER, warning, nan_at(1, 1, 0), error)
    assert [its.symptom for its in told.mismatches] == ["raises", "is NaN", "warns"]
    assert "raises TypeError: no" in told.title
    assert '    and warns "slow"; expected no warning' in report(told)


def test_the_call_comes_before_the_text_of_its_mode():
    text = report(failure(replace(LAYER, mode="deepcopy"), nan_at(1, 1, 0)))
    made, becomes, called, mode = map(text.index, ("= torch.nn.", "# becomes", "src=<float64", "copy.deepcopy(module)"))
    assert made < becomes < called < mode


def test_a_call_of_a_failure_that_ended_its_process_can_be_made_again():
    told = crash(repr(LAYER))
    assert told.title == "TransformerEncoderLayer, eval: the process ended during the call"
    assert parse(told.again.split('"')[1]) == LAYER
    assert through_json(told) == told


def test_hypothesis_shows_a_case_in_its_short_form():
    assert pretty(LAYER) == (
        "Transformer(module='TransformerEncoderLayer', N=2, S=3, num_heads=2, head_dim=2, src_mask=Mask(pattern='row'))"
    )
    merged = MultiHead(attn_mask=Merged("float", attn_mask=Mask()))
    assert pretty([merged]) == "[MultiHead(attn_mask=Merged(form='float', attn_mask=Mask()))]"


# ---- the role of a query or key -----------------------------------------------------------------------------------

HALF_MASKED = MultiHead(num_heads=2, head_dim=1, attn_mask=Mask("bool", "slice", per_head=True))


@pytest.mark.parametrize(
    "case, name, where, role",
    [
        (LAYER, "output", (0, 1, 0), FULLY_MASKED),
        (LAYER, "output", (0, 0, 0), ""),
        (
            replace(LAYER, src_mask=Mask("float", "row", "min")),
            "output",
            (0, 1, 0),
            "",
        ),  # finfo.min alone hides nothing
        (
            replace(LAYER, src_mask=Mask("float", "row", "min"), src_key_padding_mask=Mask("float", "all", "min")),
            "output",
            (0, 1, 0),
            FULLY_MASKED,  # the sum of two finfo.min hides
        ),
        (replace(ATTENTION, add_bias_kv=True), "output", (0, 0, 0), ""),
        (replace(ATTENTION, S=0), "output", (0, 0, 0), WITHOUT_KEYS),
        (HALF_MASKED, "output", (0, 0, 0), MASKED_IN_A_HEAD),
        (PADDED_LAYER, "output", (0, 0, 0), ""),
        (PADDED_LAYER, "output", (0, 2, 0), PADDED),
        (replace(CAUSAL, attention="cross", key_padding_mask=Mask("bool", "one")), "output", (0, 1, 0), ""),
        (CAUSAL, "weights", (0, 0, 1), HIDDEN_KEY),
        (CAUSAL, "weights", (0, 1, 0), ""),
        (
            ScaledDotProduct(L=2, S=2, attn_mask=Mask("bool", "all"), mask_batch=(1, 1)),
            "output",
            (0, 0, 1, 0),
            FULLY_MASKED,
        ),
        (SDPA, "output", (0, 0, 0, 0), ""),
    ],
    ids=str,
)
def test_the_role_of_a_position_is_what_the_masks_say(case, name, where, role):
    assert position_of(case, name, where).role == role


# ---- real failures ------------------------------------------------------------------------------------------------


def test_a_failure_of_a_real_call_is_plain_data():
    observation = observe(CAUSAL)
    wrong = replace(
        observation, outputs={name: np.full_like(array, nan) for name, array in observation.outputs.items()}
    )
    told = failure_of(CAUSAL, wrong, judge(CAUSAL, wrong))
    assert told.title.startswith("MultiheadAttention, eval: output is NaN for query 0 of sample 0; expected ")
    assert [its.of for its in told.mismatches] == [("output",), ("weights",)]
    assert through_json(told) == told


def test_a_mask_is_a_grid():
    assert grid(np.array([[True, False], [False, False]])) == "# .\n. ."
    assert grid(np.array(-np.inf)).strip() == "-"
    assert grid(np.zeros((0, 3, 3))) == ""
    assert "and 2 more" in grid(np.zeros((6, 1, 1)))
