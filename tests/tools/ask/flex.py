"""A call of flex_attention as it is read: its BlockMask, and its functions, by kinds of masks that stand for them.

The contents of mask_mod and score_mod are not read. The entries of the ledger depend on how the BlockMask is made, on
whether mask_mod reads a tensor, and on the numbers that score_mod adds, which --mask tells.
"""

import ast
from dataclasses import replace
from typing import Any

import torch

from tests.harness.cases.case import SLICES_OF_SAMPLES, FlexAttention
from tests.harness.cases.masks import Mask
from tests.harness.command_line import BadInput

from .values import Blocks, Function, Unknown

MAKERS = {"create_block_mask": "create_block_mask", "from_kv_blocks": "lists", "_adjust": "adjustment"}
MODES = ("eager", "compiled_inductor", "flex_debugged")  # of tests/conformance/test_flex_attention.py
# {argument: name in a case}
RENAMED = {"block_mask": "kept_mask", "score_mod": "added_mask"}
_HEADS, _FEATURES = 4, 8  # of a query whose shape is not told
_ARGUMENTS = "mask_mod B H Q_LEN KV_LEN device BLOCK_SIZE"  # of create_block_mask


def made_blocks(maker: str, owner: Any, given: list[Any], named: dict[str, Any]) -> Blocks:
    """The BlockMask that a call of a maker (MAKERS) returns. owner: the value before the dot."""
    if maker == "_adjust" and isinstance(owner, Blocks):
        return replace(owner, by=MAKERS[maker])
    found = dict(zip(_ARGUMENTS.split(), given, strict=False)) if maker == "create_block_mask" else {}
    found |= named
    size = found.get("BLOCK_SIZE", 128)
    sizes = size if isinstance(size, (tuple, list)) else (size, size)
    is_told = len(sizes) == 2 and all(type(one) is int and one > 0 for one in sizes)
    return Blocks(MAKERS[maker], found.get("mask_mod"), (sizes[0], sizes[1]) if is_told else (128, 128))


def sliced(blocks: Blocks, index: ast.expr) -> Blocks:
    """The slice of a BlockMask: by blocks of queries if the third index takes a part of them, otherwise by samples.

    Raises BadInput for a slice of a BlockMask that create_block_mask has not made.
    """
    if blocks.by not in ("create_block_mask", *SLICES_OF_SAMPLES):
        raise BadInput("block_mask is a slice of one that create_block_mask has not made: such slices are not measured")
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    is_of_queries = len(parts) > 2 and ast.unparse(parts[2]) not in (":", "::", "slice(None)")
    if is_of_queries:
        return replace(blocks, by="slice_of_queries", mask_mod=None)
    return replace(blocks, by="slice_without_mask_mod")


def given_mask_mod(blocks: Blocks, mask_mod: Any) -> Blocks:
    """The BlockMask after an assignment to its attribute mask_mod."""
    by = "slice_of_samples" if blocks.by == "slice_without_mask_mod" else blocks.by
    return replace(blocks, mask_mod=mask_mod, by=by)


def kept(value: Any) -> tuple[Mask, dict[str, Any]]:
    """The mask that stands for a BlockMask, and fields of the case. value: Blocks, or what the text does not tell.

    Raises BadInput for a slice of blocks of queries that is given no mask_mod.
    """
    blocks = value if isinstance(value, Blocks) else Blocks("create_block_mask", value)
    if blocks.by == "slice_of_queries" and blocks.mask_mod is None:
        raise BadInput("block_mask is a slice of blocks of queries without a mask_mod: assign one, for shifted queries")
    reads = blocks.mask_mod.reads if isinstance(blocks.mask_mod, Function) else isinstance(blocks.mask_mod, Unknown)
    pattern = "random" if reads else "none" if blocks.by == "lists" and blocks.mask_mod is None else "causal"
    return Mask("bool", pattern), {"blocks_by": blocks.by, "block_size": blocks.block_size}


def added() -> Mask:
    """The mask that stands for what a score_mod adds to the scores: numbers, of which none is large."""
    return Mask("float", "none", "bias")


def case_of_flex(call: Any) -> FlexAttention:
    """The case of a call (case._Call). Raises BadInput, which names the argument."""
    shapes = {name: call.shape(name) for name in ("query", "key", "value")}
    _refuse(call, shapes)
    _, fields = kept(call.given.get("kept_mask")) if "kept_mask" in call.masks else (None, {})
    length, batch, memory_length = call.situation.length, call.situation.batch, call.situation.memory_length
    if fields.get("blocks_by") == "lists" and not any(shapes.values()) and length is None:
        length, fields["block_size"] = 8, (2, 2)  # enough blocks that some are left out
    query = shapes["query"] or (_or(batch, 2), _HEADS, _or(length, 5), _FEATURES)
    key = shapes["key"] or shapes["value"] or (*query[:2], _or(memory_length, query[2]), query[3])
    of_heads = any(mask.per_head for mask in call.masks.values())
    call.masks = {name: replace(mask, per_head=False) for name, mask in call.masks.items()}
    case = FlexAttention(
        **call.common(False) | _autograd(call),
        **fields,
        mask_batch=(query[0] if fields.get("blocks_by") in SLICES_OF_SAMPLES else 1, query[1] if of_heads else 1),
        batch=tuple(query[:2]),
        L=query[2],
        S=key[2],
        D=query[3],
        Dv=(shapes["value"] or key)[3],
        scale=call.option("scale", None),
        kv_heads=key[1] if call.option("enable_gqa", False) else None,
        lse=_lse(call),
    )
    return call.held(case)


def _or(size, default):
    return default if size is None else size


def _refuse(call, shapes):
    """Raise BadInput for tensors and masks that flex_attention does not take, and for modes without a measurement."""
    for name, shape in shapes.items():
        if shape and len(shape) != 4:
            raise BadInput(f"{name} has shape {shape}: flex_attention takes four dimensions")
    for name, wanted in (("block_mask", "BlockMask"), ("score_mod", "function")):
        if torch.is_tensor(call.masks.get(RENAMED[name])):
            raise BadInput(f"{name} is a tensor: a {wanted} is wanted")
    if getattr(call.masks.get("kept_mask"), "is_float", False):
        raise BadInput("block_mask is a float mask: a mask_mod tells True or False; say numbers by score_mod")
    if call.mode not in MODES:
        raise BadInput(f"flex_attention was not measured in the mode {call.mode}; it was in {', '.join(MODES)}")


def _autograd(call):
    """Nothing requires a gradient if the text does not tell: gradients are refused on CPU since 2.11."""
    is_told = call.situation.autograd or any(map(call.is_sequence, call.given))
    return {} if is_told or call.asked.context else {"autograd": "frozen"}


def _lse(call):
    """The argument by which the call asks for the log-sum-exp."""
    if call.option("return_lse", False):
        return "return_lse"
    return "" if call.given.get("return_aux") is None else "return_aux"
