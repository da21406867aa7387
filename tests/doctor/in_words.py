"""Masks and differences in words."""

import numpy as np

from tests.harness.cases.case import is_padding
from tests.harness.judgement.comparison import ERROR
from tests.harness.judgement.report import grid
from tests.harness.judgement.wording import differences

from .calls import FLEX, SDPA, Made
from .compare import Outcome
from .describe import dtype_name, to_array
from .patterns import in_words


def masks_in_words(made: Made) -> str:
    """All masks of a call in words: "attn_mask: causal, float32, 128 x 128"."""
    masks = {name: _mask_in_words(made, name) for name in made.masks}
    if made.function == FLEX:
        functions = ("block_mask", "score_mod")
        masks |= {name: "not read" for name in functions if made.arguments.get(name) is not None and name not in masks}
    words = "; ".join(f"{name}: {its}" for name, its in masks.items())
    if not words and made.function == SDPA and made.arguments["is_causal"]:
        return "is_causal=True"
    return words or "none"


def _mask_in_words(made, name):
    mask = made.masks[name]
    size = " x ".join(map(str, mask.shape)) or "scalar"
    pattern = in_words(to_array(mask), made.function in (SDPA, FLEX), is_padding(name)) if mask.numel() else "empty"
    return f"{pattern}, {dtype_name(mask.dtype)}, {size}"


_LARGEST = 12  # rows and columns of a mask that is shown as a grid


def masks_as_grids(made: Made) -> dict[str, str]:
    """{name: grid} of the small masks of a call; of equal slices one is shown, of different ones none."""
    grids = {}
    for name, mask in made.masks.items():
        array = np.atleast_2d(to_array(mask))
        if not array.size or max(array.shape[-2:]) > _LARGEST:
            continue
        slices = array.reshape(-1, *array.shape[-2:])
        if (slices == slices[:1]).all():
            grids[name] = grid(slices[0])
    return grids


def mismatch_in_words(outcome: Outcome) -> str:
    """The first difference from the specification in words; empty if there is none."""
    if not outcome.mismatches or outcome.case is None:
        return ""
    if outcome.mismatches[0].kind == ERROR and outcome.observation.error:
        return f"raises {': '.join(outcome.observation.error)}"
    found = differences(outcome.case, outcome.mismatches, (), outcome.observation.served)
    return found[0].says if found else ""


def setting_in_words(made: Made) -> str:
    """The setting of a call: "eval, no grad, float32"."""
    mode = "" if made.owner is None else "train" if made.owner.training else "eval"
    inputs = (made.arguments[name] for name in ("query", "src", "tgt") if name in made.arguments)
    dtype = next((dtype_name(tensor.dtype) for tensor in inputs), "")
    grad = "" if made.around.records else "no grad"
    autocast = f"autocast to {made.around.autocast}" if made.around.autocast else ""
    compiled = "" if made.compiled is None else "compiled"
    return ", ".join(filter(None, (compiled, mode, grad, dtype, autocast)))
