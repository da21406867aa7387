"""The history of releases: digests of runs, explanations of their reports, and the page."""

import json

import pytest
from torch.nn import functional

from tests.harness.command_line import BadInput
from tests.tools import history
from tests.tools.history import Step, digest, page
from tests.tools.history_measured import measured

CASE = "MultiHead(seed=232, S=513, attention='cross', key_padding_mask=Mask(pattern='left'), need_weights=False)"
FLASH = {
    "title": "MultiheadAttention, eval: output is NaN for query 0 of sample 0; expected 0.5",
    "case": CASE,
    "served": ["sdpa_flash"],
    "setting": {"device": "cpu"},
}
ROW = "scaled_dot_product_attention-4d-attn_mask-mask_with_hint"


def told(**fields):
    return {"title": "no case", "setting": {"device": "cpu"}, **fields}


def record(**changes):
    environment = {"torch": "2.3.1+cpu", "model": "2.2.2", "device": "cpu", "profile": "quick", "seed": "1"}
    tests = {
        "tests/conformance/test_a.py::test_b": {"outcome": "failed", "failures": [FLASH]},
        "tests/conformance/test_a.py::test_c": {"outcome": "failed", "failures": [told(row=ROW)]},
        "tests/conformance/test_a.py::test_d": {"outcome": "failed", "message": "something odd\nand more"},
        "tests/conformance/test_a.py::test_f": {"outcome": "failed", "failures": [told(entry="native-layer-bias")]},
        "tests/conformance/test_a.py::test_e": {"outcome": "passed"},
    }
    ledger = {"native-layer-bias": {"status": "absent", "expected": True}}
    made = {"schema": 3, "environment": environment, "seconds": 60.0, "statuses": {"fails": 9, "conforms": 91}}
    return made | {"tests": tests, "ledger": ledger} | changes


def step(**changes):
    return Step(json.loads(json.dumps(digest(record(**changes)))))


@pytest.mark.skipif(not hasattr(functional, "scaled_dot_product_attention"), reason="a row of later releases")
def test_a_report_is_explained_by_what_the_two_models_say_of_its_case():
    by_test = {report.test: report.explained for report in step().reports}
    assert by_test == {
        "a-b": {"flash-first-keys-hidden"},
        "a-c": {"sdpa-mask-with-hint"},
        "a-d": set(),
        "a-f": {"native-layer-bias"},
    }


def test_what_changed_is_what_the_ledger_says():
    changed = step().changed
    assert changed["flash-first-keys-hidden"] is True
    assert changed["native-layer-bias"] is False
    assert "nested-all-padding" not in changed


def of_releases(model, torch):
    environment = record()["environment"] | {"torch": torch, "model": model}
    return Step(digest(record(environment=environment, tests={}, ledger={})))


def test_an_entry_whose_calls_are_refused_is_no_change_of_its_own():
    changed = of_releases("2.10.0", "2.11.0").changed
    assert "flex-empty-backward" not in changed  # gradients of flex_attention are refused
    assert changed["flex-number-in-index"] is False


SHORT = "Transformer(module='TransformerEncoderLayer', num_heads=2, head_dim=2, mode='exported',"


def test_entries_with_the_same_effect_are_no_change():
    """An exported layer leaves its native path since 2.4. Its fully masked queries are NaN on both paths."""
    case = f"{SHORT} S=2, src_key_padding_mask=Mask(pattern='all'), activation='gelu_tanh')"
    differing = of_releases("2.3.1", "2.4.1").differing({"case": case, "served": ["sdpa_flash"], "rows": []})
    assert differing == {"native-layer-gelu-tanh"}


def test_the_page_tells_regressions_fixes_and_what_nothing_explains():
    text = page([step()], {})
    assert "## 2.2.2 to 2.3.1" in text
    (line,) = (line for line in text.splitlines() if "`flash-first-keys-hidden`" in line)
    assert line.startswith("| regression:")
    assert CASE in line
    assert "#127055" in line
    (line,) = (line for line in text.splitlines() if "`native-layer-bias`" in line)
    assert line.startswith("| fix:")
    assert "as fixed" in line
    (line,) = (line for line in text.splitlines() if "`flash-mask-one-key`" in line)
    assert "| no |" in line
    assert "| not explained | something odd |" in text


def test_a_quiet_release_is_a_line():
    quiet = record(environment=record()["environment"] | {"torch": "2.14.1", "model": "2.14.0"}, tests={}, ledger={})
    text = page([Step(digest(quiet))], {})
    assert "| 2.14.0 to 2.14.1 | quick | 100 | 60 | 1 |" in text


def test_a_run_by_its_own_model_is_refused(tmp_path, capsys):
    own = record(environment={"torch": "2.3.1"})
    with pytest.raises(BadInput, match="judged by its own model"):
        digest(own)
    (tmp_path / "own.json").write_text(json.dumps(own))
    assert history.main(["--add", str(tmp_path / "own.json")]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_failures_that_are_no_data_are_refused():
    with pytest.raises(BadInput, match="schema 2"):
        digest(record(schema=2))
    assert digest(record(schema=2, tests={}))["reports"] == []


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", json.dumps({"environment": 3})], ids=lambda text: text[:9])
def test_what_is_no_record_is_refused(text, tmp_path, capsys):
    path = tmp_path / "none.json"
    path.write_text(text)
    assert history.main(["--add", str(path)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_case_of_a_record_is_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(history, "DIGESTS", tmp_path / "digests")
    made, path = tmp_path / "made", tmp_path / "strange.json"
    code = f"MultiHead(N=[c for c in ().__class__.__base__.__subclasses__()][0](['touch', '{made}']))"
    strange = record(tests={"t": {"outcome": "failed", "failures": [FLASH | {"case": code}]}})
    path.write_text(json.dumps(strange))
    assert history.main(["--add", str(path), "--check"]) == 4
    assert not made.exists()
    assert not history.DIGESTS.exists()
    assert "not one of ScaledDotProduct" in capsys.readouterr().err


def test_an_entry_that_predicts_something_else_has_changed():
    """The CPU's fused kernel with a negative scale: since 2.5 it predicts other numbers for the same calls."""
    case = "ScaledDotProduct(S=8, D=3, Dv=3, is_causal=True, scale=0.0)"
    environment = record()["environment"] | {"torch": "2.5.1", "model": "2.4.1"}
    plain = {"case": case, "served": ["sdpa_flash"], "rows": [], "entry": ""}
    assert "flash-causal-negative-scale" in step(environment=environment).differing(plain)
    earlier = record()["environment"] | {"torch": "2.4.1", "model": "2.4.0"}
    assert not step(environment=earlier).differing(plain)


def test_a_report_names_each_path_once():
    """The kernel that is named before another path serves later attentions, too."""
    case = (
        "Transformer(seed=3639, autograd='one_parameter', garbage=True, mode='threads', module='Transformer', N=2, S=3,"
        " T=4, num_heads=2, head_dim=4, memory_mask=Mask(form='float', pattern='anti_causal', values='-1e30'),"
        " src_key_padding_mask=Mask(form='float', pattern='scattered', values='bfloat16_min'), dim_feedforward=7,"
        " activation='gelu', norm=True)"
    )
    plain = {"case": case, "served": ["sdpa_flash", "native_mha"], "rows": [], "entry": ""}
    assert "flash-gradient-finfo-min" in step().differing(plain)


def test_models_that_differ_in_gradients_that_are_nan_do_not_agree():
    case = "MultiHead(autograd='mask', attn_mask=Mask(form='float'), key_padding_mask=Mask(pattern='one'))"
    environment = record()["environment"] | {"torch": "2.0.1", "model": "1.13.1"}
    call = told(case=case, title="nan", served=["explicit"])
    its = measured(step(environment=environment, groups=[group({"kind": "new"}, call)]))
    assert not its.others
    agreed = measured(step(environment=environment, groups=[group({"kind": "new"}, told(case="MultiHead()"))]))
    assert len(agreed.others) == 1


# ---- the measure of explanations -----------------------------------------------------------------------------------

FIRST_KEYS = {"kind": "back", "changed": [{"id": "flash-first-keys-hidden", "kind": "back"}]}
AGREED = told(case="MultiHead()", title="both models agree")


def group(explanation, *calls, **others):
    return {"explanation": explanation, "calls": list(calls), "seen": len(calls)} | others


def measure(*groups):
    return measured(step(groups=list(groups)))


def test_an_explanation_that_names_an_entry_is_right():
    found = measure(group(FIRST_KEYS, FLASH))
    assert "flash-first-keys-hidden" in found.changed
    assert found.right == {"flash-first-keys-hidden"}
    assert "native-layer-bias" in found.missed
    assert not found.others


def test_a_change_without_the_right_explanation_is_reported_all_the_same():
    found = measure(group({"kind": "new"}, FLASH))
    assert (found.own, found.right) == ({"flash-first-keys-hidden"}, frozenset())
    assert found.misread == ("flash-first-keys-hidden",)


def test_a_group_that_mixes_two_changes_is_neither_ones_own():
    assert not measure(group({"kind": "new"}, FLASH, AGREED)).own


def test_a_report_of_calls_on_which_both_models_agree_is_counted():
    assert measure(group({"kind": "new"}, AGREED)).others == ("both models agree",)
    wrong = {"kind": "back", "changed": [{"id": "empty-row-nan-sdpa", "kind": "back"}]}
    assert measure(group(wrong, AGREED)).others == ("empty-row-nan-sdpa back",)
    assert not measure(group(wrong, AGREED, is_flaky=True)).others


def test_the_page_has_a_row_for_each_measured_step():
    text = page([step(groups=[group(FIRST_KEYS, FLASH)]), step()], {})
    (row,) = (line for line in text.splitlines() if line.startswith("| 2.2.2 to 2.3.1 |"))
    assert "`native-layer-bias`" in row
    assert any(line.startswith("| all |") for line in text.splitlines())
    assert "Measured on changes" not in page([step()], {})
