"""The doctor reads flex_attention: its functions are evaluated, and compared with the reference."""

import contextlib
import functools
import runpy
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.doctor.compare import AS_SPECIFIED, KNOWN, NOT_COMPARED, REFUSED, UNKNOWN
from tests.doctor.compiled import UNSEEN
from tests.doctor.diagnosis import Diagnosis
from tests.doctor.places import Place
from tests.doctor.report import as_text
from tests.harness.execution.release import installed
from tests.harness.releases import since

from .diagnosed import diagnosed, mistakes

pytestmark = pytest.mark.skipif(not installed().has_flex_attention, reason="this release has no flex_attention")

B, H, L, D = 2, 2, 8, 16
Q, K, V = torch.randn(3, B, H, L, D).unbind()
LENGTHS = torch.tensor([5, 8])
PREFIXES = torch.tensor([2, 4])
BIAS = torch.randn(H, L, L)


def flex(query=Q, key=K, value=V, mask_mod=None, blocks=None, is_compiled=False, **options):
    """A program that calls flex_attention; mask_mod and blocks (of 2 x 2 positions) become its block_mask."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    if mask_mod is not None and blocks is None:
        options["block_mask"] = create_block_mask(mask_mod, B, H, L, L, device="cpu")
    if blocks is not None:
        numbers = torch.tensor(blocks, dtype=torch.int32).sum(-1)[None, None]
        order = torch.tensor(blocks).logical_not().int().argsort(dim=-1, stable=True)[None, None].int()
        options["block_mask"] = BlockMask.from_kv_blocks(numbers, order, BLOCK_SIZE=(2, 2), mask_mod=mask_mod)

    def program():
        from torch.nn.attention.flex_attention import flex_attention

        function = torch.compile(flex_attention) if is_compiled else flex_attention
        function(query, key, value, **options)

    return program


def causal(b, h, q, k):
    return q >= k


def together(b, q, k):
    """True in one of the two documents that are packed into a sample."""
    return (q < PREFIXES[b]) == (k < PREFIXES[b])


def tanh(score, b, h, q, k):
    return torch.where(q >= k, 20 * torch.tanh(score / 20) + BIAS[h, q, k], -float("inf"))


def the_finding(program):
    """The only finding of a program; errors that it raises are those of the call."""
    diagnosis = diagnosed(lambda: _without_errors(program))
    (finding,) = diagnosis.findings.values()
    return finding


def _without_errors(program):
    with contextlib.suppress(ValueError, RuntimeError, NotImplementedError, AssertionError):
        program()


@pytest.mark.parametrize(
    "options, masks",
    [
        ({}, "none"),
        ({"scale": 0.3}, "none"),
        ({"mask_mod": causal}, "block_mask: causal, bool, 1 x 1 x 8 x 8"),
        ({"mask_mod": lambda b, h, q, k: k < LENGTHS[b]}, "block_mask: padding (hides 19 %), bool, 2 x 1 x 8 x 8"),
        ({"mask_mod": lambda b, h, q, k: (k <= q) & (h > 0)}, "block_mask: causal and more, bool, 1 x 2 x 8 x 8"),
        (
            {"mask_mod": lambda b, h, q, k: (k <= q) & (q - k < 3)},
            "block_mask: causal, in a sliding window of 3, bool, 1 x 1 x 8 x 8",
        ),
        (
            {"mask_mod": lambda b, h, q, k: (k <= q) & together(b, q, k)},
            "block_mask: causal within documents, bool, 2 x 1 x 8 x 8",
        ),
        ({"mask_mod": lambda b, h, q, k: together(b, q, k)}, "block_mask: within documents, bool, 2 x 1 x 8 x 8"),
        (
            {"mask_mod": lambda b, h, q, k: (k <= q) | (k < PREFIXES[b])},
            "block_mask: causal behind a prefix of 2 to 4, bool, 2 x 1 x 8 x 8",
        ),
        (
            {"mask_mod": lambda b, h, q, k: (k <= q) | (k < 4)},
            "block_mask: causal behind a prefix of 4, bool, 1 x 1 x 8 x 8",
        ),
        ({"mask_mod": lambda b, h, q, k: (k <= q) & (k != 3)}, "block_mask: causal and more, bool, 1 x 1 x 8 x 8"),
        ({"mask_mod": lambda b, h, q, k: (q - k).abs() < 3}, "block_mask: hides 47 %, bool, 1 x 1 x 8 x 8"),
        ({"score_mod": tanh, "return_lse": True}, "score_mod: causal with a bias, float32, 2 x 2 x 8 x 8"),
        ({"score_mod": lambda s, b, h, q, k: s + BIAS[h, q].sum()}, None),
        ({"mask_mod": causal, "blocks": [[1, 1, 1, 1]] * 4}, "block_mask: causal, bool, 1 x 1 x 8 x 8"),
        ({"key": K[:, :1], "value": V[:, :1], "enable_gqa": True}, "none"),
    ],
)
def test_a_right_call_is_as_specified(options, masks):
    finding = the_finding(flex(**options))
    assert (finding.verdict, finding.reason) == (AS_SPECIFIED, "")
    assert masks in (None, *finding.masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_each_precision_is_compared_with_its_own_bound(dtype):
    inputs = [tensor.to(dtype) for tensor in (Q, K, V)]
    assert the_finding(flex(*inputs, mask_mod=causal)).verdict == AS_SPECIFIED


def test_a_wrong_result_is_found(monkeypatch):
    from torch.nn.attention import flex_attention as module

    right = module.flex_attention
    monkeypatch.setattr(module, "flex_attention", lambda query, key, value: right(query, key, value) * 1.001)
    finding = the_finding(flex())
    assert finding.verdict == UNKNOWN
    assert "output is off by" in finding.difference
    assert finding.script == ""


def with_added(monkeypatch, number):
    """Make flex_attention add a number to its output."""
    from torch.nn.attention import flex_attention as module

    right = module.flex_attention

    def wrong(query, key, value, score_mod=None, block_mask=None):
        return right(query, key, value, score_mod, block_mask) + number

    monkeypatch.setattr(module, "flex_attention", wrong)


def test_a_number_in_the_place_of_an_exact_zero_is_no_rounding(monkeypatch):
    with_added(monkeypatch, 1e-7)
    finding = the_finding(flex(mask_mod=lambda b, h, q, k: (q >= k) & (q != 3)))
    words = "output is not 0 for the fully masked query 3 of sample 0, head 0; expected 0, got 1e-07"
    assert (finding.verdict, finding.difference) == (UNKNOWN, words)


def test_numbers_that_score_mod_adds_to_hidden_scores_allow_no_error(monkeypatch):
    with_added(monkeypatch, 1e-3)
    steep = flex(mask_mod=causal, score_mod=lambda s, b, h, q, k: torch.where(q >= k, s, 1e5 * (k - q)))
    assert the_finding(steep).verdict == UNKNOWN


def test_blocks_that_disagree_with_mask_mod_are_a_known_deviation():
    finding = the_finding(flex(mask_mod=causal, blocks=[[1, 0, 0, 0]] * 4))
    assert (finding.verdict, finding.entries) == (KNOWN, ("flex-blocks-ignored",))
    assert finding.remedies


def test_nan_in_a_hidden_position_is_a_known_deviation():
    value = V.clone()
    value[:, :, -1] = torch.nan
    finding = the_finding(flex(value=value, mask_mod=lambda b, h, q, k: k < L - 1))
    assert (finding.verdict, finding.entries) == (KNOWN, ("flex-hidden-nan",))


@pytest.mark.parametrize(
    "id, mask_mod",
    [
        ("inverted-causal", lambda b, h, q, k: q <= k),
        ("inverted-causal", lambda b, h, q, k: q < k),
        ("inverted-padding", lambda b, h, q, k: k >= LENGTHS[b]),
        ("hides-everything", lambda b, h, q, k: (q >= k) & (q != 3)),
        (None, causal),
        (None, lambda b, h, q, k: k < LENGTHS[b]),
        (None, lambda b, h, q, k: (q < LENGTHS[b]) & (k < LENGTHS[b])),  # padded queries see nothing
    ],
)
def test_a_mistake_in_mask_mod_is_told(id, mask_mod):
    assert mistakes(flex(mask_mod=mask_mod)) == ({id} if id else set())


def test_a_score_mod_that_hides_the_past_is_told():
    assert mistakes(flex(score_mod=lambda s, b, h, q, k: torch.where(q <= k, s, -float("inf")))) == {"inverted-causal"}


def test_the_words_are_those_of_flex_attention():
    ((_, _, mistake),) = diagnosed(flex(mask_mod=lambda b, h, q, k: q <= k)).mistakes
    assert mistake.says.endswith("it looks inverted. mask_mod keeps where it returns True")
    assert mistake.remedy == "Invert the condition in mask_mod, if no query may see what follows it."


@pytest.mark.parametrize(
    "options, verdict, reason",
    [
        ({"key": K[:, :1], "value": V[:, :1]}, REFUSED, "do not fit each other"),
        ({"query": Q[0]}, REFUSED, "have not four dimensions"),
        ({"key": K[..., :4].repeat(1, 1, 1, 4), "query": Q, "value": V.double()}, NOT_COMPARED, "dtype"),
    ],
)
def test_a_call_that_does_not_fit_has_its_reason(options, verdict, reason):
    finding = the_finding(flex(**options))
    assert (finding.verdict, reason in finding.reason) == (verdict, True), finding.reason


@pytest.mark.skipif(not since(installed(), "2.11"), reason="gradients are computed before 2.11")
def test_gradients_are_refused_as_documented():
    finding = the_finding(flex(query=Q.clone().requires_grad_(), mask_mod=causal))
    assert (finding.verdict, list(finding.masks)) == (REFUSED, ["block_mask: causal, bool, 1 x 1 x 8 x 8"])


def with_block_mask(heads, length):
    """A program that calls flex_attention with a BlockMask for so many heads and positions."""
    from torch.nn.attention.flex_attention import create_block_mask

    block_mask = create_block_mask(lambda b, h, q, k: (h > 0) | (q >= k), B, heads, length, length, device="cpu")
    query = torch.cat([Q, Q], dim=1)
    return flex(query=query, key=query, value=query, block_mask=block_mask)


@pytest.mark.skipif(not since(installed(), "2.6"), reason="2.5 compares no lengths")
def test_a_block_mask_of_another_length_is_refused_as_documented():
    finding = the_finding(with_block_mask(2 * H, 2 * L))
    assert (finding.verdict, finding.reason.partition(":")[0]) == (
        REFUSED,
        "block_mask is of other lengths than query and key",
    )


def test_a_block_mask_of_too_few_heads_is_a_mistake():
    assert mistakes(with_block_mask(H, L)) == {"accepted-wrong-mask"}


def test_autocast_to_the_dtype_of_the_inputs_changes_nothing():
    inputs = [tensor.bfloat16() for tensor in (Q, K, V)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert the_finding(flex(*inputs, mask_mod=causal)).verdict == AS_SPECIFIED
        assert the_finding(flex(Q, K, V)).reason == "autocast from float32 to bfloat16"


@pytest.mark.skipif(since(installed(), "2.6"), reason="since 2.6, score_mod may read what requires a gradient")
def test_captured_gradients_are_refused_as_documented():
    slopes = torch.ones(H, requires_grad=True)
    assert the_finding(flex(score_mod=lambda s, b, h, q, k: s + slopes[h])).verdict == REFUSED


def test_a_call_within_a_module_has_its_place():
    class Block(torch.nn.Module):
        def forward(self):
            flex(score_mod=lambda s, b, h, q, k: s - self.slopes[h] * (q - k).abs())()

    block = Block().eval()
    block.slopes = torch.nn.Parameter(torch.ones(H), requires_grad=since(installed(), "2.6"))
    with torch.no_grad():
        finding = the_finding(block)
    assert (finding.verdict, str(finding.place).partition(" ")[0]) == (AS_SPECIFIED, "Block")


def test_a_function_that_cannot_be_evaluated_is_the_reason(monkeypatch):
    monkeypatch.setattr("tests.doctor.flex._ReadingByTensors", {}.popitem)  # raises KeyError
    finding = the_finding(flex(mask_mod=causal))
    assert finding.verdict == NOT_COMPARED
    assert finding.reason.startswith("its mask_mod cannot be evaluated at all positions: KeyError")
    assert list(finding.masks) == ["block_mask: not read"]


def test_a_large_call_is_compared_in_its_first_samples(monkeypatch):
    monkeypatch.setattr("tests.doctor.compare.MOST_SCORES", H * L * L)
    assert the_finding(flex(mask_mod=lambda b, h, q, k: k < LENGTHS[b])).verdict == AS_SPECIFIED
    monkeypatch.setattr("tests.doctor.compare.MOST_SCORES", 10)
    assert "128 scores in one sample" in the_finding(flex()).reason


def exit_code(script):
    """The exit code of a script that runs in this process, as a module of its own: TorchDynamo tells them by names."""
    torch._dynamo.reset()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name=f"{Path(script).parent.name}_{next(NUMBERS)}")
    return ended.value.code


NUMBERS = count()
KEYS = {"key": K[:, :1], "value": V[:, :1], "enable_gqa": True, "scale": 0.3, "return_lse": True}


@pytest.mark.parametrize(
    "options",
    [
        {"mask_mod": lambda b, h, q, k: (k <= q) & (k < LENGTHS[b])},
        {"mask_mod": causal, "blocks": [[1, 1, 1, 1]] * 4},
        {"mask_mod": lambda b, h, q, k: k < q, "return_lse": True},  # the log-sum-exp of a fully masked query is -inf
        {"score_mod": tanh, **KEYS},
    ],
)
def test_the_script_of_a_call_exits_1_where_the_bug_is(monkeypatch, tmp_path, options):
    from torch.nn.attention import flex_attention as module

    right, program = module.flex_attention, flex(**options)

    def wrong(*args, **kwargs):
        result = right(*args, **kwargs)
        return (result[0] * 1.001, *result[1:]) if isinstance(result, tuple) else result * 1.001

    with monkeypatch.context() as patch:
        patch.setattr(module, "flex_attention", functools.wraps(right)(wrong))
        (finding,) = diagnosed(program, scripts=str(tmp_path)).findings.values()
        assert (finding.verdict, exit_code(finding.script)) == (UNKNOWN, 1)
    assert exit_code(finding.script) == 0


def test_an_unknown_error_is_told_once(monkeypatch):
    def failing(query, key, value):
        raise ValueError("odd")

    monkeypatch.setattr("torch.nn.attention.flex_attention.flex_attention", failing)
    assert as_text(diagnosed(lambda: _without_errors(flex())), "").count("odd") == 1


def test_a_call_that_the_doctor_fails_to_judge_is_no_further_call():
    diagnosis = Diagnosis(calls=Counter([(Place(), "flex_attention")]))
    diagnosis.fails(ValueError("odd"))
    assert "further call" not in as_text(diagnosis, "")


# ---- torch.compile -------------------------------------------------------------------------------------------------


def compiled_flex(as_decorator=False, **options):
    """A program that compiles flex_attention with these options, and calls it twice."""

    def program():
        from torch.nn.attention.flex_attention import flex_attention

        torch._dynamo.reset()
        compiled = (
            torch.compile(flex_attention, **options) if not as_decorator else torch.compile(**options)(flex_attention)
        )
        for _ in range(2):
            compiled(Q, K, V)

    return program


@pytest.mark.parametrize("as_decorator", [False, True])
def test_a_compiled_flex_attention_is_judged(as_decorator):
    diagnosis = diagnosed(compiled_flex(as_decorator, backend="eager"))
    (finding,) = diagnosis.findings.values()
    assert (finding.verdict, finding.calls, dict(diagnosis.passed)) == (AS_SPECIFIED, 2, {})
    assert list(finding.settings) == ["compiled, float32"]


def test_arguments_that_are_bound_before_the_compilation_are_judged():
    def program():
        from torch.nn.attention.flex_attention import flex_attention

        torch._dynamo.reset()
        compiled = torch.compile(
            functools.partial(flex_attention, score_mod=below_the_diagonal, scale=0.5), backend="eager"
        )
        compiled(Q, K, V)
        compiled(Q, K, value=V, scale=0.25)

    diagnosis = diagnosed(program)
    told = [(its.verdict, its.calls, list(its.settings)) for its in diagnosis.findings.values()]
    assert told == [(AS_SPECIFIED, 1, ["compiled, float32"])] * 2
    assert not diagnosis.passed


def below_the_diagonal(score, batch, head, query, key):
    return torch.where(key <= query, score, -torch.inf)


def doubling(graph, _):
    """A backend of torch.compile whose results are twice the right ones."""
    return lambda *inputs: tuple(2 * result for result in graph(*inputs))


def test_a_wrong_result_of_a_compiler_is_found_and_its_script_compiles(tmp_path):
    (finding,) = diagnosed(compiled_flex(backend=doubling), scripts=str(tmp_path)).findings.values()
    assert finding.verdict == UNKNOWN
    assert "torch.compile(flex_attention)(**given)" in Path(finding.script).read_text()


def compiling_to(monkeypatch, function):
    """Make torch.compile give this function for flex_attention, which the function takes as its first argument."""
    from torch.nn.attention import flex_attention as module

    right, compiler = module.flex_attention, torch.compile
    made = functools.wraps(right)(lambda *args, **kwargs: function(right, *args, **kwargs))
    monkeypatch.setattr(
        torch, "compile", lambda model, **options: made if model is right else compiler(model, **options)
    )


def test_a_compiled_call_may_read_the_blocks(monkeypatch):
    from torch.nn.attention.flex_attention import create_block_mask

    seen = create_block_mask(lambda b, h, q, k: (q >= k) & (k < 2), None, None, L, L, device="cpu")
    compiling_to(monkeypatch, lambda flex, query, key, value, block_mask: flex(query, key, value, block_mask=seen))
    finding = the_finding(flex(mask_mod=causal, blocks=[[1, 0, 0, 0]] * 4, is_compiled=True))
    assert (finding.verdict, list(finding.settings)) == (AS_SPECIFIED, ["compiled, float32"])


def test_a_call_that_torch_compile_gives_up_is_explained_as_uncompiled(monkeypatch):
    compiling_to(monkeypatch, lambda flex, *args, **kwargs: flex(*args, **kwargs))
    finding = the_finding(flex(mask_mod=causal, blocks=[[1, 0, 0, 0]] * 4, is_compiled=True))
    assert (finding.entries, list(finding.settings)) == (("flex-blocks-ignored",), ["compiled, float32"])


def test_an_error_of_a_compiler_is_no_verdict_about_torch():
    def failing(graph, inputs):
        raise ValueError("no compiler: " + 1000 * "x")

    diagnosis = diagnosed(lambda: _ended(compiled_flex(backend=failing)))
    (finding,) = diagnosis.findings.values()
    assert (finding.verdict, finding.calls) == (NOT_COMPARED, 1)
    assert "no compiler: xxx" in finding.reason
    assert len(finding.reason) < 500


def _ended(program):
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed):
        program()


class Model(torch.nn.Module):
    """A model of one flex_attention."""

    def forward(self, query):
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(query, K, V)


@pytest.mark.parametrize("kind", ["function", "model", "in place"])
def test_calls_of_other_compiled_code_are_counted(kind):
    def program():
        torch._dynamo.reset()
        model = Model()
        if kind == "in place":
            model.compile(backend="eager")
        else:
            model = torch.compile(model if kind == "model" else lambda query: Model()(query), backend="eager")
        for _ in range(3):
            model(Q)

    diagnosis = diagnosed(program)
    assert dict(diagnosis.passed) == {UNSEEN: 3}
    assert not diagnosis.findings


def test_a_program_whose_compilation_is_disabled_is_judged(monkeypatch):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    diagnosis = diagnosed(compiled_flex())
    (finding,) = diagnosis.findings.values()
    assert (finding.verdict, list(finding.settings), dict(diagnosis.passed)) == (AS_SPECIFIED, ["float32"], {})


def test_an_eager_call_is_no_use_of_torch_compile():
    assert not diagnosed(flex()).passed
