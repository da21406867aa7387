"""The functions and the BlockMask that a call of flex_attention is given, as Python text over tensors."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import torch

from ..cases.case import ADJUSTMENTS, SLICES_OF_SAMPLES, FlexAttention
from ..contents.arrays import mask_arrays
from ..contents.blocks import block_mask, longest_list

_MODULE = "torch.nn.attention.flex_attention"


def module() -> ModuleType:
    """The module of flex_attention, which torch does not import by itself."""
    return importlib.import_module(_MODULE)


def imported(case: FlexAttention) -> str:
    """The statement that imports the functions of the call."""
    maker = "BlockMask" if case.has_lists else "create_block_mask"
    names = [maker] * (case.kept_mask is not None) + ["flex_attention"]
    names = [f"{case.joined}_masks"] * _joins(case) + names
    return f"from {_MODULE} import {', '.join(names)}"


def definitions(case: FlexAttention) -> Iterator[str]:
    """The statements, of one line or more, that define `block_mask` and `score_mod` by `kept_mask` and `added_mask`."""
    if case.has_mask_mod:
        kept = "q_idx >= kv_idx" if case.compares_positions else _read("kept_mask", case)
        if _joins(case):
            yield from _joined(case, kept)
        else:
            yield f"def mask_mod(b, h, q_idx, kv_idx):\n    return {kept}"
    if case.kept_mask is not None:
        yield _by_lists(case) if case.has_lists else _by_creation(case)
        if case.blocks_by in _SHIFTED:
            yield _shifted(case)
    if case.softcap is not None or case.added_mask is not None:
        yield "def score_mod(score, b, h, q_idx, kv_idx):\n" + "\n".join(f"    {line}" for line in _score_mod(case))


def _joins(case):
    return bool(case.joined) and case.has_mask_mod


def _joined(case, kept):
    """The definitions of three functions that decide about every third key each, and of mask_mod, which joins them."""
    for remainder, name in enumerate(_JOINED):
        joint = f"& (kv_idx % 3 == {remainder})" if case.joined == "or" else f"| (kv_idx % 3 != {remainder})"
        yield f"def {name}(b, h, q_idx, kv_idx):\n    return ({kept}) {joint}"
    yield f"mask_mod = {case.joined}_masks({', '.join(_JOINED)})"


_JOINED = ("of_first", "of_second", "of_third")


def _read(name, case):
    """The element of a mask at the position. What all samples or heads share is taken first, unless `by_number`."""
    if case.by_number:
        places = ["0" if is_shared else index for index, is_shared in zip("bh", case.shares_mask, strict=True)]
        return f"{name}[{', '.join([*places, 'q_idx', 'kv_idx'])}]"
    part = {(True, True): "[0, 0]", (True, False): "[0]", (False, True): "[:, 0]"}.get(case.shares_mask, "")
    places = [index for index, is_shared in zip("bh", case.shares_mask, strict=True) if not is_shared]
    return f"{name}{part}[{', '.join([*places, 'q_idx', 'kv_idx'])}]"


def _score_mod(case):
    if case.softcap is not None:
        yield f"score = {case.softcap} * torch.tanh(score / {case.softcap})"
    if case.added_mask is None:
        yield "return score"
    elif case.added_mask.is_float:
        yield f"return score + {_read('added_mask', case)}"
    else:
        yield f"return torch.where({_read('added_mask', case)}, score, -float('inf'))"


def _by_creation(case):
    *batch, L, S = case.mask_shape("kept_mask")
    sizes = [*(size if size > 1 else None for size in batch), L, S]
    blocks = f", BLOCK_SIZE={case.block_size}" if case.block_size != FlexAttention.block_size else ""
    parts = dict.fromkeys(ADJUSTMENTS, f"._adjust({case.L}, {case.S})") | {"slice_of_queries": "[:, :, 1:]"}
    part = (parts | dict.fromkeys(SLICES_OF_SAMPLES, "[1:]")).get(case.blocks_by, "")
    arguments = ", ".join(map(str, ("mask_mod", *sizes)))
    return f"block_mask = create_block_mask({arguments}, device=query.device{blocks}){part}"


_SHIFTED = ("slice_of_queries", "slice_of_samples")


def _shifted(case):
    """The definition of the mask_mod of a slice, and its assignment."""
    at = "b + 1, h, q_idx, kv_idx" if case.slices_samples else f"b, h, q_idx + {case.block_size[0]}, kv_idx"
    return f"def shifted(b, h, q_idx, kv_idx):\n    return mask_mod({at})\nblock_mask.mask_mod = shifted"


def _by_lists(case):
    """The call of BlockMask.from_kv_blocks. Lengths are given if blocks do not divide them, as since 2.6."""
    mask = block_mask(case, mask_arrays(case)["kept_mask"])
    width = longest_list(mask) if case.blocks_by == "narrow_lists" else mask.kv_indices.shape[-1]
    indices = [its[..., :width] for its in (mask.kv_indices, mask.full_kv_indices)]
    lists = (mask.kv_num_blocks, indices[0], mask.full_kv_num_blocks, indices[1])
    lines = [f"    torch.tensor({numbers.tolist()}, dtype=torch.int32, device=query.device)," for numbers in lists]
    lines += [f"    BLOCK_SIZE={case.block_size},", *["    mask_mod=mask_mod,"] * case.has_mask_mod]
    lines += [f"    seq_lengths=({case.L}, {case.S}),"] * gives_lengths(case)
    return "\n".join(["block_mask = BlockMask.from_kv_blocks(", *lines, ")"])


def gives_lengths(case: FlexAttention) -> bool:
    """True if the BlockMask is made of lists and told its lengths, which these do not tell: no block divides them."""
    return case.blocks_by == "narrow_lists" or (
        case.has_lists and any(n % size for n, size in zip((case.L, case.S), case.block_size, strict=True))
    )


def functions(case: FlexAttention) -> tuple[str, ...]:
    """The names of the arguments that the definitions define."""
    has_score_mod = case.softcap is not None or case.added_mask is not None
    return ("score_mod",) * has_score_mod + ("block_mask",) * (case.kept_mask is not None)


def defined(case: FlexAttention, tensors: dict[str, torch.Tensor]) -> dict[str, object]:
    """{argument name: value} of the definitions, executed over these tensors. Errors of torch propagate."""
    names = {"torch": torch, **tensors}
    exec("\n".join((imported(case), *definitions(case))), names)
    return {name: names[name] for name in functions(case)}
