"""A call of torch as a user writes it: its tensors, the arguments of the constructor and those of the call."""

import functools
from functools import partial
from typing import Any

import numpy as np
import torch

from ..cases.case import Case, DotProduct, MultiHead, masks_of
from ..contents.arrays import directions, inputs, mask_arrays
from ..contents.given import GivenContents
from ..contents.results import as_given
from ..modes.modes import BY_ID


def made_under_inference_mode(case: Case) -> tuple[str, ...]:
    """The names of inputs and masks that are made under torch.inference_mode().

    For a quarter of the calls under it, by the seed, all of them, and for another quarter the inputs.
    """
    if case.autograd != "inference_mode" or isinstance(case.seed, GivenContents) or BY_ID[case.mode].compiles:
        return ()
    return {1: (*inputs(case), *masks_of(case)), 3: tuple(inputs(case))}.get(case.seed % 4, ())


def arguments(case: Case, device: str = "cpu") -> dict[str, torch.Tensor]:
    """{argument name: tensor} of inputs and masks, in the shapes that the call takes."""
    moving, of_inference = directions(case), made_under_inference_mode(case)
    tensors = {}
    for name, array in (inputs(case) | mask_arrays(case)).items():
        mask = masks_of(case).get(name)
        layout, dtype = (mask.layout, mask.dtype or case.dtype) if mask else (case.layout, case.dtype)
        with torch.inference_mode(name in of_inference):
            tensor = lay_out(as_given(case, name, array), layout, dtype).to(device)
            tensors[name] = tensor.requires_grad_(name in moving)
    return tensors


def lay_out(array: np.ndarray, layout: str, dtype: str) -> torch.Tensor:
    """A tensor with the contents of the array and a memory layout of masks.LAYOUTS. A bool array stays bool.

    A "swapped" tensor has its third last dimension where its second last one would be, as heads that are split off
    features have. Memory around a "sliced" or "stepped" tensor is poisoned with NaN or True.
    """
    element = partial(torch.tensor, dtype=torch.bool if array.dtype == bool else getattr(torch, dtype))

    def tensor(array):  # torch.tensor makes an empty array one whose strides are 0
        return element(array) if array.size else element(0).new_empty(array.shape)

    array = np.array(array, order="C")  # torch.tensor keeps the strides of a view
    if layout == "contiguous" or array.ndim == 0 or (layout == "swapped" and array.ndim < 3):
        return tensor(array)
    if layout == "swapped":
        return tensor(array.swapaxes(-3, -2).copy()).transpose(-3, -2)
    if layout == "transposed":
        return tensor(array.T.copy()).permute(*reversed(range(array.ndim)))
    if layout == "expanded":
        if not array.size:
            return element(0).expand(array.shape)
        constant = [axis for axis in range(array.ndim) if (array == array.take([0], axis)).all()]
        once = array[tuple(slice(0, 1) if axis in constant else slice(None) for axis in range(array.ndim))]
        return tensor(once).expand(array.shape)
    step = 2 if layout == "stepped" else 1
    poison = True if array.dtype == bool else np.nan
    *rows, columns = array.shape
    window = (*(slice(1, 1 + size) for size in rows), slice(1, 1 + step * columns, step))
    around = np.full([*(size + 2 for size in rows), step * columns + 2], poison, array.dtype)
    around[window] = array
    return tensor(around)[window]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The contents of a tensor on any device; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


class Typed(str):
    """An argument that is no plain value, as the text of a Python expression."""

    __repr__ = str.__str__

    @property
    def value(self) -> Any:
        """The value of the expression."""
        return eval(self, {"torch": torch, "functools": functools})


_CALLABLES = {
    "gelu_tanh": Typed('torch.nn.GELU(approximate="tanh")'),
    "gelu_tanh_function": Typed('functools.partial(torch.nn.functional.gelu, approximate="tanh")'),
    "silu": Typed("torch.nn.functional.silu"),
}


_LSE = {"return_lse": True, "return_aux": Typed("torch.nn.attention.flex_attention.AuxRequest(lse=True)")}


def constructor(case: Case) -> dict[str, Any]:
    """{name: argument} for the constructor of the module, or of the layer of a stack. Defaults are left out."""
    if isinstance(case, MultiHead):
        names: dict[str, Any] = {
            "dropout": 0.0,
            "bias": True,
            "add_bias_kv": False,
            "add_zero_attn": False,
            "kdim": None,
            "vdim": None,
        }
        given: dict[str, Any] = {"embed_dim": case.E, "num_heads": case.num_heads}
    else:
        names = {"layer_norm_eps": 1e-5, "norm_first": False, "bias": True}
        given = {"d_model": case.E, "nhead": case.num_heads, "dim_feedforward": case.dim_feedforward}
        given |= {"dropout": case.dropout, "activation": _CALLABLES.get(case.activation, case.activation)}
        if case.module == "Transformer":
            given |= {"num_encoder_layers": case.num_layers, "num_decoder_layers": case.num_layers}
    names["batch_first"] = False
    given |= {name: getattr(case, name) for name, default in names.items() if getattr(case, name) != default}
    return given


def options(case: Case) -> dict[str, Any]:
    """{name: argument} of the call, tensors excepted. Defaults are left out."""
    if isinstance(case, DotProduct):
        given: dict[str, Any] = {
            "is_causal": case.is_causal or None,
            "scale": case.scale,
            "enable_gqa": case.kv_heads is not None or None,
        }
        given |= {case.lse: _LSE[case.lse]} if case.is_flex and case.lse else {}
        given["dropout_p"] = case.dropout or None
    elif isinstance(case, MultiHead):
        given = {"is_causal": case.is_causal or None, "training": case.training if case.functional else None}
        given |= {name: None if getattr(case, name) else False for name in ("need_weights", "average_attn_weights")}
    else:
        given = {name: getattr(case, name) for name in ("src_is_causal", "tgt_is_causal", "memory_is_causal")}
        if case.module.startswith("TransformerEncoder"):
            given = {"is_causal": case.src_is_causal}
    return {name: value for name, value in given.items() if value is not None}
