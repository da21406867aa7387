"""The predicted result of an accepted call with a wrong mask, and its comparison with torch's result.

The reference computes the prediction. An entry of ledger.py changes this computation: another mask takes the place of
the wrong one, another kernel computes, or elements are uninitialised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from typing import Any

import numpy as np

from reference.attention import scaled_dot_product_attention

from ..cases.case import Case, MultiHead, ScaledDotProduct, Transformer, is_padding
from ..contents.results import as_held, present
from ..expectation.specification import Computation, reference_module
from ..judgement import comparison
from ..judgement.comparison import DEVICE, DTYPE, RESULTS, SHAPE, Mismatch
from .outcome import Outcome
from .table import HEADS, PARAMETERS, SDPA, E, WrongCall


@dataclass(frozen=True)
class Comparison:
    """The comparison of a result with its prediction."""

    mismatches: tuple[Mismatch, ...] = ()
    left_out: int = 0  # the number of elements that are not compared


NOTHING_COMPARED = Comparison()


def compare(
    call: WrongCall, outcome: Outcome, change: Callable[[Computation, WrongCall], Computation] | None = None
) -> Comparison:
    """Compare the result of an accepted call with the specified computation, after `change` if it is given.

    change: as in entry.WrongMaskDeviation.
    """
    results = _results(outcome.names["result"])
    if not _has_known_parameters(call, outcome.names):
        return Comparison((), sum(result.numel() for result in results.values()))
    predicted = Prediction(call, outcome.names, change)
    if set(predicted.exact) != set(results):
        return Comparison((Mismatch("results", sorted(predicted.exact), sorted(results), kind=RESULTS),))
    found: list[Mismatch] = []
    left_out = 0
    for name in sorted(results):
        more, number = _compared(name, predicted, results[name])
        found, left_out = found + more, left_out + number
    return Comparison(tuple(found), left_out)


def _has_known_parameters(call, names):
    """False if the module is not torch's and its parameters have other names than those of torch."""
    if not call.callee.made:
        return True
    last = {name.rpartition(".")[2] for name in names["module"].state_dict()}
    return bool(last & {"in_proj_weight", "q_proj_weight"})


def _compared(name, predicted, got):
    """([Mismatch], number of elements left out) for one result."""
    expected = predicted.exact[name]
    told = {SHAPE: expected.shape, DEVICE: predicted.device_of(name), DTYPE: predicted.call.fault.inputs}
    dtype = str(got.dtype).removeprefix("torch.")
    seen = {SHAPE: tuple(got.shape), DEVICE: got.device.type, DTYPE: dtype}
    if told != seen:
        differ = [kind for kind in told if told[kind] != seen[kind]]
        return [Mismatch(f"{name} {kind}", told[kind], seen[kind], kind=kind, of=(name,)) for kind in differ], 0
    left_out = np.broadcast_to(predicted.is_undefined, expected.shape)
    if left_out.all():
        return [], left_out.size
    numbers = np.where(left_out, expected, got.detach().cpu().numpy())
    for allowed in predicted.bounds(name):
        mismatch, _ = comparison.compare_arrays(name, expected, numbers, allowed)
        if mismatch is None:
            return [], int(left_out.sum())
    return [mismatch], int(left_out.sum())


def _results(result):
    """{name: tensor}"""
    tensors = result if isinstance(result, tuple) else (result,)
    return {name: tensor for name, tensor in zip(("output", "weights"), tensors, strict=False) if tensor is not None}


# ---- the computation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """The predicted result of a call."""

    call: WrongCall
    names: dict  # see outcome.Outcome
    change: Callable[[Computation, WrongCall], Computation] | None = None  # see entry.WrongMaskDeviation

    def _computation(self, dtype):
        computation = specification(self.call, self.names, dtype)
        return self.change(computation, self.call) if self.change else computation

    def _results(self, computation):
        return present(case_of(self.call), computation())

    @cached_property
    def computation(self) -> Computation:
        """The predicted computation, in float64."""
        return self._computation("float64")

    @cached_property
    def exact(self) -> dict[str, np.ndarray]:
        """{name: float64 array} of the results, in torch's shapes."""
        return self._results(self.computation)

    @property
    def is_undefined(self) -> np.ndarray:
        """True at undefined elements: a bool array, broadcastable to each result."""
        return reduce(np.logical_or, self.computation.undefined.values(), np.asarray(False))

    def device_of(self, name: str) -> str:
        """The type of the device of a result: that of the inputs, unless the computation names another."""
        return self.computation.devices.get(name, self.names[self.call.callee.inputs[0]].device.type)

    def bounds(self, name: str) -> Iterator[float | np.ndarray]:
        """The allowed errors of a result, the cheap bound first (see comparison.py)."""
        exact, dtype, terms = self.exact[name], self.call.fault.inputs, comparison.terms(case_of(self.call))
        yield comparison.bound(exact, exact, dtype, terms)
        rough = self._results(self._computation("float32"))
        yield comparison.bound(exact, rough[name], dtype, terms)


def specification(call: WrongCall, names: dict[str, Any], dtype: str = "float64") -> Computation:
    """The specified computation, in the arithmetic of `dtype`. names: as in outcome.Outcome.

    The wrong mask is one of its arguments, with its wrong shape, unless it holds no numbers.
    """
    case = case_of(call)
    inputs = _inputs(call)
    arrays: dict[str, Any] = {name: as_held(case, name, _array(names[given], dtype)) for name, given in inputs.items()}
    arrays |= _masks(call, names, dtype)
    if call.module == SDPA:
        grouped = {"enable_gqa": "enable_gqa" in call.callee.options}
        return Computation(scaled_dot_product_attention, arrays | grouped, call.fault.inputs)
    state = names["module"].state_dict() if call.callee.made else {_IN_MODULE[name]: names[name] for name in PARAMETERS}
    weights = {name: _array(tensor, dtype) for name, tensor in state.items()}
    return Computation(reference_module(case, weights), arrays, call.fault.inputs)


_IN_MODULE = {"in_proj_weight": "in_proj_weight", "out_proj_weight": "out_proj.weight"}


def _inputs(call):
    """{argument of the reference: name in the call} of the sequences, and of the tensor that a view is taken from."""
    if len(call.callee.inputs) == 3:  # attention
        stored = {"stored": "stored"} if getattr(call.fault, "view", False) else {}
        return dict(zip(("query", "key", "value"), call.callee.inputs, strict=True)) | stored
    return {name: name for name in call.callee.inputs}


def _masks(call, names, dtype):
    """{argument of the reference: array} of the given masks that hold numbers."""
    given = {call.argument: names.get("mask")}
    if call.fault.beside:
        given[call.other] = names["other_mask"]
    arrays = {name: _array(mask, dtype) for name, mask in given.items() if _has_content(mask)}
    return {argument(call, name): as_batched(call, name, array) for name, array in arrays.items()}


def _has_content(mask):
    """True if the mask holds numbers. A meta tensor has none, and the memory of a CausalBias is uninitialised."""
    return type(mask).__name__ == "Tensor" and mask.device.type != "meta"


def argument(call: WrongCall, name: str) -> str:
    """The reference's name of a mask argument."""
    return "src_mask" if (call.module, name) == ("TransformerEncoder", "mask") else name


def as_batched(call: WrongCall, name: str, array: np.ndarray) -> np.ndarray:
    """The mask as the reference takes it: a padding mask of unbatched inputs gets a batch dimension of size 1."""
    return array if call.callee.is_batched or not is_padding(name) else array[None]


def _array(tensor, dtype):
    array = tensor.detach().cpu().numpy()
    return array.astype(dtype) if array.dtype.kind == "f" else array


@cache
def case_of(call: WrongCall) -> Case:
    """A case with the module, sizes and layout of the call, but without its masks and numbers."""
    callee, lengths = call.callee, {name: call.length(name) for name in call.callee.inputs}
    L, S = lengths[callee.inputs[0]], next(lengths[name] for name in ("memory", "src", "key") if name in lengths)
    sizes: dict[str, Any] = {
        "num_heads": HEADS,
        "head_dim": E // HEADS,
        "batched": callee.is_batched,
        "N": call.fault.samples,
        "S": S,
    }
    if call.module == SDPA:
        return ScaledDotProduct(L=L, S=S, D=E // HEADS, Dv=E // HEADS)
    if len(callee.inputs) < 3:
        norms: dict[str, Any] = {"norm": call.module == "Transformer", "norm_first": callee.variant == "norm_first"}
        return Transformer(module=call.module, T=lengths.get("tgt", 1), dim_feedforward=E, **norms, **sizes)
    features = callee.features if callee.features != E else None
    return MultiHead(
        L=L,
        batch_first=callee.variant != "sequence_first",
        functional=not callee.made,
        bias=bool(callee.made),
        need_weights="need_weights=False" not in callee.options,
        kdim=features,
        vdim=features,
        add_bias_kv="add_bias_kv" in callee.made,
        add_zero_attn="add_zero_attn" in callee.made,
        **sizes,
    )
