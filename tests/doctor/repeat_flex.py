"""The script that repeats a call of flex_attention: its functions become tables of their values at all positions."""

from dataclasses import replace
from typing import Any

import torch

from reference.flex import ScoreMod
from tests.harness.cases.case import FlexAttention
from tests.harness.contents.given import GivenContents

from .calls import Made
from .flex import without_copies

_SCRIPT = """\
\"\"\"Repeats a call of flex_attention that differs from the reference, for reasons that nobody knows.

Exits 1 where it differs. The mask_mod and score_mod of the program are replaced by tables of their values: if this
exits 0 in the program's own environment, the difference lies in how torch computes these functions.
\"\"\"
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.attention.flex_attention import %(imported)s

data = torch.load(Path(__file__).with_suffix(".pt"), weights_only=True)
given = {name: value.to(%(device)r).requires_grad_(name in data["moving"]) for name, value in data["given"].items()}
tables = {name: table.expand(%(sizes)s).contiguous().to(%(device)r) for name, table in data["tables"].items()}
%(functions)s
with %(context)s:
    result = %(called)s(**given%(options)s)
%(results)s
"""

_MASK = """\
kept = tables["kept"]
blocks = {name: value if value is None else value.to(%(device)r) for name, value in data["blocks"].items()}


def mask_mod(b, h, q_idx, kv_idx):
    return kept[b, h, q_idx, kv_idx]


block_mask = BlockMask.from_kv_blocks(**blocks, BLOCK_SIZE=%(block_size)s, mask_mod=mask_mod)
block_mask.seq_lengths = %(lengths)s
"""

_SCORES = """\
added = tables["added"]


def score_mod(score, b, h, q_idx, kv_idx):
    return score + added[b, h, q_idx, kv_idx]

"""


def with_tables(made: Made, case: FlexAttention) -> FlexAttention:
    """The case whose score_mod adds the numbers of a table."""
    contents = case.seed
    assert isinstance(contents, GivenContents)
    if contents.score_mod is None:
        return case
    added = ScoreMod(bias=made.evaluated["score_mod"].numpy())
    return replace(case, seed=GivenContents(contents.inputs, contents.masks, {}, "", contents.blocks, added))


def data(made: Made, case: FlexAttention) -> dict[str, Any]:
    """The inputs of the compared samples, the tables of the functions, and the lists of the blocks."""
    contents, samples = case.seed, case.batch[0]
    assert isinstance(contents, GivenContents)  # as of every case of the doctor
    given = {name: made.arguments[name] for name in ("query", "key", "value")}
    tables = {}
    if contents.blocks is not None:
        tables["kept"] = torch.from_numpy(without_copies(contents.masks["kept_mask"]))
    if contents.score_mod is not None:
        tables["added"] = made.evaluated["score_mod"]
    return {
        "given": {name: tensor.detach()[:samples].clone().cpu() for name, tensor in given.items()},
        "moving": [name for name, tensor in given.items() if tensor.requires_grad],
        "tables": tables,
        "blocks": _lists(contents.blocks),
    }


def _lists(blocks):
    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    lists = {} if blocks is None else {name: getattr(blocks, name) for name in names}
    return {name: None if array is None else torch.from_numpy(array.copy()) for name, array in lists.items()}


def text(made: Made, case: FlexAttention, context: str) -> str:
    """The script up to the comparison."""
    contents = case.seed
    assert isinstance(contents, GivenContents)
    has_blocks, has_scores = contents.blocks is not None, contents.score_mod is not None
    names = ["AuxRequest"] * (case.lse == "return_aux") + ["BlockMask"] * has_blocks + ["flex_attention"]
    sizes, lengths = (*case.batch, case.L, case.S), (case.L, case.S)
    mask = _MASK % {"device": str(made.device), "block_size": case.block_size, "lengths": lengths}
    return _SCRIPT % {
        "imported": ", ".join(names),
        "device": str(made.device),
        "sizes": sizes,
        "functions": mask * has_blocks + _SCORES * has_scores,
        "context": context,
        "called": "flex_attention" if made.compiled is None else f"torch.compile(flex_attention{_compiling(made)})",
        "options": "".join(f", {argument}" for argument in _options(made, case)),
        "results": _RESULTS[case.lse],
    }


_RESULTS = {
    "": "results = (result,)",
    "return_lse": "results = result",
    "return_aux": "results = result[0], result[1].lse",
}


def _options(made, case):
    if case.seed.blocks is not None:
        yield "block_mask=block_mask"
    if case.seed.score_mod is not None:
        yield "score_mod=score_mod"
    if case.scale is not None:
        yield f"scale={case.scale}"
    for name in ("enable_gqa", "kernel_options"):
        if made.arguments.get(name):
            yield f"{name}={made.arguments[name]!r}"
    if case.lse:
        yield {"return_lse": "return_lse=True", "return_aux": "return_aux=AuxRequest(lse=True)"}[case.lse]


def _compiling(made):
    """The options of torch.compile, without functions, which have no text."""
    return "".join(f", {name}={value!r}" for name, value in made.compiled.items() if not callable(value))
