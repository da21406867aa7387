"""Modules whose linear layers torch.ao.quantization.quantize_dynamic has quantized."""

from dataclasses import dataclass, replace

import numpy as np

from ..cases.case import Transformer, masks_of, source_of
from ..cases.masks import Mask
from ..expectation.changes import multiplied, raising, with_linear
from ..expectation.eight_bits import EightBits
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..releases import since
from .call import Call
from .empty_inputs import views_nothing
from .entry import Deviation
from .mixed_types import unreadable_blocks
from .native import blocks_without_a_bias, misses_the_layers_biases
from .nested_tensors import is_nested
from .paths import asks_for_alignment, reads_parts
from .remedies import EXACT_ACTIVATION, FIRST_KEY, fast_path_off, in_releases, on_native_paths, sequences_first

_LANES = 8  # numbers of float32 in a register of AVX2


def reads_methods(call: Call) -> bool:
    """True if an encoder layer takes the method `weight` of a quantized part for a tensor."""
    if not (BY_ID[call.case.mode].quantizes and reads_parts(call.case, call.release)):
        return False
    return not (misses_the_layers_biases(call) or _raises_before(call))


def _raises_before(call):
    """True if a stack without positions raises before autograd asks its parts for `requires_grad`."""
    case = call.case
    if case.S == 0 and asks_for_alignment(case, call.release):
        return True
    return case.N * case.S == 0 and is_nested(call) and case.autograd in ("no_grad", "inference_mode")


class FirstIsNaN(Exception):
    """The first input of a quantized layer is NaN."""


@dataclass(frozen=True)
class ForgettingNaN(EightBits):
    """A linear layer as FBGEMM computes it beside NaN.

    It compares eight lanes of consecutive inputs at once, each with the least (or largest) of its lane so far. NaN in a
    lane replaces that number, and is itself replaced by the next input: what came before is forgotten. The rest is
    compared one by one, without NaN, beginning with the first input of all.
    """

    sequences_first: bool = False  # the order of the inputs in memory

    level_of_nan: float = 255

    def range(self, x: np.ndarray) -> tuple[float, float]:
        """The least and the largest input, as far as they are not forgotten."""
        inputs = (np.swapaxes(x, 0, 1) if self.sequences_first else x).ravel()
        if np.isnan(inputs[:1]).any():
            raise FirstIsNaN
        return _least(inputs), -_least(-inputs)


def _least(inputs):
    if not inputs.size:
        return 0.0
    whole = inputs.size // _LANES * _LANES
    lanes = np.full(_LANES, inputs[0])
    for inputs_of_lanes in inputs[:whole].reshape(-1, _LANES):
        lanes = np.where(lanes < inputs_of_lanes, lanes, inputs_of_lanes)
    return float(np.nanmin([inputs[0], *lanes, *inputs[whole:]]))


def may_meet_nan(call: Call) -> bool:
    """True if a quantized layer may get NaN: the call has masks, by which queries become NaN, or holds NaN itself."""
    case = call.case
    if not (BY_ID[case.mode].quantizes and case.has_layers) or reads_methods(call):
        return False
    return bool(masks_of(case) or case.nonfinite)


def beside_nan(computation: Computation, call: Call) -> Computation:
    """The computation in which quantized layers meet NaN; unchanged if they meet none, or if the call raises before."""
    if computation.error and not _decoder_raises(call):
        return computation
    linear = ForgettingNaN(sequences_first=not call.case.batch_first)
    blocks = ("src",) if computation.error else ("src", "tgt")
    changed = multiplied(with_linear(computation, lambda _: linear, blocks))
    try:
        results = changed()
    except FirstIsNaN:
        return raising(computation, "RuntimeError", "min should be less than or equal to max")
    return changed if any(np.isnan(array).any() for array in results.values()) else computation


def _decoder_raises(call):
    """True if attentions of nn.Transformer raise, none of them before the encoder's feed-forward blocks."""
    blocks = {*views_nothing(call), *blocks_without_a_bias(call)}
    blocks |= set() if since(call.release, "2.0") else set(unreadable_blocks(call))
    return call.case.module == "Transformer" and "src" not in map(source_of, blocks)


_EXACT = (EXACT_ACTIVATION,)  # a copy of a decoder computes ReLU in place of the others
_FIRST_KEY = replace(FIRST_KEY, only=_EXACT)

ENTRIES = (
    Deviation(
        id="quantized-nan",
        title="NaN in one row makes dynamically quantized layers raise, or compute other numbers for all rows",
        affects=">=1.13",
        upstream="not found",
        clause=4,
        trigger="an attention whose output is NaN for some query, since all keys are masked or a hidden one is NaN, in"
        " a module whose feed-forward is quantized by quantize_dynamic",
        instead="RuntimeError if the query is the first of all. Otherwise the quantized layer forgets the least and the"
        " largest of the inputs before NaN when it chooses its levels: numbers of other queries, and of other samples,"
        " are rounded differently or cut off",
        applies=may_meet_nan,
        change=beside_nan,
        pinned=Transformer(
            dtype="float32",
            mode="quantized",
            module="TransformerDecoderLayer",
            num_heads=2,
            head_dim=2,
            tgt_key_padding_mask=Mask("bool", "all"),
        ),
        stage="call",
        remedies=(*in_releases(">=2.5", sequences_first(_EXACT), fast_path_off(_EXACT)), on_native_paths(_FIRST_KEY)),
    ),
    Deviation(
        id="quantized-encoder-raises",
        title="A dynamically quantized nn.TransformerEncoderLayer raises in eval mode",
        affects=">=1.13",
        upstream="pytorch/pytorch#109987",
        clause=3,
        trigger="quantize_dynamic of an encoder layer with batch_first=True, an even number of heads and ReLU or GELU,"
        " in eval mode, for a batch, with or without autograd",
        instead="AttributeError: the layer asks for the device of linear1.weight, a method of a quantized layer",
        applies=reads_methods,
        change=lambda computation, call: raising(
            computation, "AttributeError", "'function' object has no attribute '(device|is_cuda|requires_grad)'"
        ),
        pinned=Transformer(dtype="float32", num_heads=2, head_dim=2, mode="quantized"),
        stage="call",
        remedies=(sequences_first(), fast_path_off()),
    ),
)
