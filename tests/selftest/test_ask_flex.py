"""`python -m tests.tools ask` reads calls of flex_attention."""

import json

import pytest

from tests.harness.cases.masks import Mask
from tests.harness.command_line import BAD_INPUT
from tests.tools.ask.case import Situation, case_of
from tests.tools.ask.command import main
from tests.tools.ask.text import read

IMPORTS = "from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention\n"
CAUSAL = "def mask_mod(b, h, q_idx, kv_idx):\n    return q_idx >= kv_idx\n"
DOCUMENTS = "def mask_mod(b, h, q_idx, kv_idx):\n    return document[b, q_idx] == document[b, kv_idx]\n"
CREATED = "flex_attention(q, k, v, block_mask=create_block_mask(mask_mod, None, None, 5, 5))"
LISTS = "flex_attention(q, k, v, block_mask=BlockMask.from_kv_blocks(numbers, indices, BLOCK_SIZE=2))"


MASK = "m = create_block_mask(lambda b, h, q, k: q >= k, 2, 1, 9, 9)\n"


def case(text, **situation):
    """The case of a text."""
    return case_of(read(text), Situation(**situation))


def shown(capsys, text, *options):
    """{release: ids of the entries} that the command says."""
    assert main([text, "--format", "json", *options]) == 0
    ranges = json.loads(capsys.readouterr().out)["ranges"]
    return {its["releases"]: [entry["id"] for entry in its["entries"]] for its in ranges}


@pytest.mark.parametrize(
    "text, compares, blocks_by, block_size",
    [
        (CAUSAL + CREATED, True, "create_block_mask", (128, 128)),
        (DOCUMENTS + CREATED, False, "create_block_mask", (128, 128)),
        (CREATED, False, "create_block_mask", (128, 128)),  # mask_mod is not told
        ("flex_attention(q, k, v, block_mask=bm)", False, "create_block_mask", (128, 128)),
        ("m = create_block_mask(lambda b, h, q, k: q >= k, 1, 1, 9, 9, BLOCK_SIZE=(2, 3))\n"
         "flex_attention(q, k, v, block_mask=m)", True, "create_block_mask", (2, 3)),
        (f"{MASK}flex_attention(q, k, v, block_mask=m._adjust(5, 5))", True, "adjustment", (128, 128)),
        (f"{MASK}flex_attention(q, k, v, block_mask=m[1:])", True, "slice_without_mask_mod", (128, 128)),
        (f"{MASK}m = m[0, :]\nm.mask_mod = lambda b, h, q, k: q >= k\nflex_attention(q, k, v, block_mask=m)",
         True, "slice_of_samples", (128, 128)),
        (f"{MASK}m = m[:, :, 1:]\nm.mask_mod = f\nflex_attention(q, k, v, block_mask=m)",
         False, "slice_of_queries", (128, 128)),
        (LISTS, False, "lists", (2, 2)),
        (CAUSAL + LISTS.replace("indices,", "indices, mask_mod=mask_mod,"), True, "lists", (2, 2)),
    ],
)  # fmt: skip
def test_a_block_mask_is_read_by_the_way_it_is_made(text, compares, blocks_by, block_size):
    found = case(IMPORTS + text)
    assert (found.compares_positions, found.blocks_by, found.block_size) == (compares, blocks_by, block_size)
    assert found.mode == "eager"


def test_tensors_and_options_are_read():
    text = "q = torch.zeros(3, 4, 6, 16)\nk = torch.zeros(3, 2, 9, 16)\nv = torch.zeros(3, 2, 9, 32)\n"
    found = case(f"{text}flex_attention(q, k, v, scale=0.5, enable_gqa=True, return_lse=True)")
    assert (found.batch, found.L, found.S, found.D, found.Dv) == ((3, 4), 6, 9, 16, 32)
    assert (found.kv_heads, found.scale, found.lse, found.kept_mask) == (2, 0.5, "return_lse", None)


def test_a_mask_is_said_by_the_command_line():
    found = case("flex_attention(q, k, v, f, bm)", masks={"block_mask": "bool:all", "score_mod": "float:all:-1e9"})
    assert (found.kept_mask, found.added_mask) == (Mask("bool", "all"), Mask("float", "all", "-1e9"))
    assert case("flex_attention(q, k, v, f, bm)", masks={"block_mask": "None"}).kept_mask is None
    per_head = case("flex_attention(q, k, v, f, bm)", masks={"block_mask": "bool:row:per_head"})
    assert (per_head.mask_batch, per_head.kept_mask) == ((1, 4), Mask("bool", "row"))


COMPILED = "torch.compile(flex_attention)"


@pytest.mark.parametrize("text", [f"{COMPILED}(q, k, v)", f"f = {COMPILED}\nf(q, k, v)"])
def test_a_compiled_call_is_read(text):
    assert case(text).mode == "compiled_inductor"


@pytest.mark.parametrize(
    "text, options, expected",
    [
        ("flex_attention(q, k, v)", (), {"1.13 to 2.4": [], "2.5 to 2.15": []}),
        (CAUSAL + CREATED, (), {"1.13 to 2.4": [], "2.5 to 2.15": []}),
        (DOCUMENTS + CREATED, ("--torch", "2.5:"), {"2.5": ["flex-mask-mod-past-the-end"], "2.6 to 2.15": []}),
        (LISTS, ("--torch", "2.5:"), {"2.5 to 2.15": ["flex-blocks-ignored"]}),
        (
            f"{COMPILED}{LISTS.removeprefix('flex_attention')}",
            ("--torch", "2.5:"),
            {"2.5": [], "2.6 to 2.7": ["flex-blocks-ignored"], "2.8 to 2.15": []},
        ),
        (
            "flex_attention(q, k, v, score_mod=f)",
            ("--torch", "2.9:", "--autograd", "inputs", "--mask", "score_mod=float:all:-1e9"),
            {"2.9 to 2.10": ["flex-gradient-large-mask"], "2.11 to 2.15": []},
        ),
        ("FlexAttention(S=0)", ("--torch", "2.8:"), {"2.8": [], "2.9 to 2.15": ["flex-no-keys"]}),
    ],
)
def test_the_answer_is_that_of_the_ledger(capsys, text, options, expected):
    assert shown(capsys, text, *options) == expected


@pytest.mark.parametrize(
    "text, options, says",
    [
        ("flex_attention(q, k)", (), "value is missing in the call"),
        ("flex_attention(q, k, v, attn_mask=m)", (), "takes no attn_mask; it takes query, key, value, score_mod"),
        ("flex_attention(q, k, v, block_mask=torch.ones(5, 5))", (), "block_mask is a tensor: a BlockMask is wanted"),
        ("flex_attention(torch.zeros(2, 5, 8), k, v)", (), "flex_attention takes four dimensions"),
        ("flex_attention(q, k, v)", ("--mode", "exported"), "was not measured in the mode exported; it was in eager"),
        ("flex_attention(q, k, v, block_mask=m)", ("--mask", "attn_mask=causal"), "it takes score_mod, block_mask"),
        ("flex_attention(q, k, v, block_mask=m)", ("--mask", "block_mask=float:all"), "block_mask is a float mask"),
        (
            f"{MASK}flex_attention(q, k, v, block_mask=m[:, :, 1:])",
            (),
            "a slice of blocks of queries without a mask_mod",
        ),
    ],
)
def test_a_wrong_call_is_one_line(capsys, text, options, says):
    with pytest.raises(SystemExit) as ended:
        main([text, *options])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (BAD_INPUT, 1)
    assert says in said


def test_what_is_assumed_is_said(capsys):
    main(["flex_attention(q, k, v, block_mask=bm)", "--torch", "2.15"])
    said = " ".join(capsys.readouterr().out.split())
    assert "block_mask by create_block_mask, whose mask_mod reads a tensor" in said
    assert "CUDA is not asked: it is not measured." in said
    assert "What mask_mod and score_mod hide or add is not read from the text" in said
