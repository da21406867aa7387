"""The aims of a mode are all combinations of path and mask that it can meet, and calls drawn for an aim meet it."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, find, settings

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.deviations.call import Call
from tests.harness.deviations.refusals import refusal
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.modes.modes import BY_ID, EAGER, MODES
from tests.harness.releases import since
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.coverage import aimed, aims, combinations_of

from .sampling import sample

RELEASE = session.start().release
HERE = [mode for mode in MODES if mode is not EAGER and mode.is_in()]
_IDS = ("deepcopy", "func_jvp", "pruned", "default_device", "sdpa_flash")
_TORCHSCRIPT = ("scripted", "traced", "traced_hiding", "traced_causal")
_COMPILED = ("compiled", "compiled_dynamic", "compiled_fullgraph", "exported", "exported_strict")
# Modes that differ in the paths that they take.
DIFFERENT = [mode for mode in HERE if mode.id in (*_IDS, *_TORCHSCRIPT, *_COMPILED)]
SEEN_AS = {
    "native_layer": "native_encoder_layer",
    "nested": "nested",
    "native_mha": "native_mha",
    "sdpa": "sdpa_",
    "explicit": "explicit",
}
FUSED = "sdpa" if since(RELEASE, "2.0") else "explicit"
LAYER = Transformer(S=2, T=2, num_heads=2, src_key_padding_mask=Mask("float"))
PADDING, WEIGHTS = "bool key_padding_mask", "weights of each head"
PADDED = MultiHead(S=2, num_heads=2, attention="self", key_padding_mask=Mask())


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (PADDED, {("native_mha", "bool key_padding_mask")}),
        (replace(PADDED, training=True), {("explicit", "bool key_padding_mask")}),
        (replace(PADDED, training=True, need_weights=False), {(FUSED, "bool key_padding_mask")}),
        (MultiHead(S=2), set()),
        (LAYER, {("native_layer", "float key_padding_mask")}),
        (
            replace(LAYER, module="TransformerEncoder"),
            {("nested", "float key_padding_mask"), ("detection", "float key_padding_mask")},
        ),
        (replace(PADDED, average_attn_weights=False), {("native_mha", kind) for kind in (PADDING, WEIGHTS)}),
        (
            replace(LAYER, module="Transformer", memory_mask=Mask(), tgt_mask=Mask("float"), num_heads=3),
            {(FUSED, "float key_padding_mask"), (FUSED, "bool attn_mask"), (FUSED, "float attn_mask")}
            | ({("detection", "float attn_mask")} if RELEASE.has_decoder_hints else set()),
        ),
    ],
)
def test_what_a_call_meets(case, expected):
    assert combinations_of(case, RELEASE) == expected


def test_what_a_call_of_the_function_meets():
    assert combinations_of(ScaledDotProduct(is_causal=True), RELEASE) == {("sdpa", "is_causal")}
    assert combinations_of(ScaledDotProduct(attn_mask=Mask("float")), RELEASE) == {("sdpa", "float attn_mask")}


def calls(mode, path, number=1):
    """{kind: `number` calls drawn for it}, for each kind of mask that the mode can meet on the path."""
    kinds = aims(RELEASE, mode)[path]
    return {kind: sample(aimed(RELEASE, mode, path, kind, places), number) for kind, places in kinds.items()}


@pytest.mark.parametrize("mode", HERE, ids=str)
def test_calls_meet_what_they_are_drawn_for(mode):
    for path in aims(RELEASE, mode):
        for kind, (case,) in calls(mode, path).items():
            assert (path, kind) in combinations_of(case, RELEASE)
            assert case.mode == mode.id


@pytest.mark.parametrize("path", SEEN_AS)
def test_calls_are_served_by_the_path_that_they_are_drawn_for(path):
    mode = BY_ID["deepcopy"]
    if path not in aims(RELEASE, mode):
        pytest.skip("this release has no such path")
    for case in [case for cases in calls(mode, path, 4).values() for case in cases]:
        observation, _ = judged(case)
        assert observation.error or any(served.startswith(SEEN_AS[path]) for served in observation.served)


PADDINGS = ("bool key_padding_mask", "float key_padding_mask")
BROKEN = {("native_mha", "is_causal"), *(("detection", padding) for padding in PADDINGS)}


@pytest.mark.parametrize("mode", DIFFERENT, ids=str)
def test_nothing_that_is_drawn_is_left_out(mode):
    """The exception are hints and paddings in compiled calls whose graph breaks for another reason."""
    served = (case for case in sample(cases_in(RELEASE, mode), 400) if refusal(Call(case, RELEASE)) is None)
    drawn = set().union(*(combinations_of(case, RELEASE) for case in served))
    asked = {(path, kind) for path, kinds in aims(RELEASE, mode).items() for kind in kinds}
    if mode.id == "compiled_fullgraph":  # a stack that reads its mask nearly always raises in this mode
        drawn = {(path, kind) for path, kind in drawn if path != "detection"}
    assert drawn - asked <= (BROKEN if mode.compiles else set())


@pytest.mark.parametrize("path", ["native_layer", "nested", "explicit"])
def test_what_a_failure_shrinks_to_hides_something(path):
    mode, kind = BY_ID["deepcopy"], "float key_padding_mask"
    strategy = aimed(RELEASE, mode, path, kind, aims(RELEASE, mode)[path][kind])
    often_elsewhere = settings(database=None, suppress_health_check=[HealthCheck.filter_too_much])
    least = find(strategy, lambda case: True, settings=often_elsewhere)
    assert min(getattr(least, name, 2) for name in ("L", "S", "T")) == 2
    assert "one" in {mask.pattern for mask in masks_of(least).values()}
