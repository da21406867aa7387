"""Cases and entries answer for themselves: code asks for a property, not for the kind of case or for the ledger."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given

from tests.harness.cases.base import Case
from tests.harness.cases.case import (
    MultiHead,
    ScaledDotProduct,
    SquareSubsequentMask,
    Transformer,
    is_padding,
    masks_of,
)
from tests.harness.contents.arrays import inputs, mask_arrays
from tests.harness.deviations.entry import Entry
from tests.harness.deviations.paths import path_of_each_block
from tests.harness.execution.release import installed
from tests.harness.ledgers import BY_ID, ENTRIES
from tests.harness.path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA
from tests.harness.strategies.modules import any_cases

from .sampling import FEW

ROOT = Path(__file__).parents[1]
KINDS = (ScaledDotProduct, MultiHead, Transformer, SquareSubsequentMask)
FOR_KINDS = 60  # lines that ask for a kind: where kinds have different code, and for the type checker


def asked_of(names, *folders):
    """The lines of the modules in these folders that call isinstance with one of the names."""
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                classes = {getattr(its, "id", "") for its in ast.walk(node.args[1])}
                if classes & set(names):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_few_lines_ask_for_the_kind_of_a_case():
    lines = list(asked_of({kind.__name__ for kind in KINDS}, "harness", "tools", "doctor", "remedies"))
    assert 20 < len(lines) < FOR_KINDS, lines


def test_no_tool_asks_from_which_ledger_an_entry_is():
    assert not list(asked_of({"Deviation", "WrongMaskDeviation", "WrongSequence"}, "tools", "doctor", "harness"))


def questions(kind):
    """The names of the public properties of a class."""
    return [name for name, its in vars(kind).items() if isinstance(its, property) and not name.startswith("_")]


def test_every_entry_answers_every_question():
    release = installed()
    assert len(BY_ID) == len(ENTRIES)
    for entry in ENTRIES:
        assert [getattr(entry, name) for name in (*questions(Entry), "clause", *(its.name for its in fields(Entry)))]
        assert entry.can_be_asked(release) or entry.minimal_case is not None
        assert entry.minimal_case is None or entry.minimal_case == entry.pinned


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_case_answers_every_question_that_has_a_meaning_for_it(kind):
    case = kind()
    without = set() if case.attends else {"batch_size", "heads", "samples"}
    for name in set(questions(Case)) - without:
        getattr(case, name)
    assert set(case.hints) <= {field.name for field in fields(kind)}
    assert set(case.length_fields) <= {field.name for field in fields(kind)}


@FEW
@given(case=any_cases(installed()))
def test_properties_fit_each_other_and_the_numbers(case):
    assert set(case.order) == set(case.blocks)
    assert not case.attentions or len(case.attentions) == len(case.sources)
    assert not case.attentions or {case.hint(block) for block in case.blocks} <= set(case.hints)
    assert case.query_input in inputs(case)
    assert set(path_of_each_block(case, installed()).values()) <= {BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA}
    if case.only is None:
        assert {name: array.shape for name, array in inputs(case).items()} == case.input_shapes
        shapes = {name: array.shape for name, array in mask_arrays(case).items() if not case.broadcast}
        assert shapes == {name: case.mask_shape(name) for name in shapes}
    for attention in case.attentions:
        assert [is_padding(name) for name in attention.masks] == [False, True]
    given_masks = {name for attention in case.attentions for name in attention.masks} or {"attn_mask"}
    assert set(masks_of(case)) <= given_masks


def test_a_hint_is_no_mask_and_the_is_causal_of_sdpa_is_one():
    assert ScaledDotProduct(is_causal=True).asks_for_causal_mask
    assert not ScaledDotProduct(is_causal=True).is_hinted
    assert MultiHead(is_causal=True).is_hinted
    assert not MultiHead(is_causal=True).asks_for_causal_mask
    assert Transformer(memory_is_causal=True).is_declared_causal
    assert MultiHead(is_causal=True).without_hint("attn_mask") == {"is_causal": False}
    assert Transformer().without_hint("tgt_mask") == {"tgt_is_causal": None}
    assert ScaledDotProduct(is_causal=True).without_hint("attn_mask") == {}
