"""Describes a call as a case with the contents that it had, so that the reference and the ledger can be asked about it.

Modules are read as they are. A call that no case can express is Inexpressible, with the reason in words.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, Transformer, is_padding
from tests.harness.cases.dtypes import PRECISIONS, held
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import hidden, ignored, inputs
from tests.harness.contents.given import GivenContents
from tests.harness.contents.results import as_held
from tests.harness.execution.call import to_numpy
from tests.harness.execution.runner import Observation

from .calls import FUNCTIONAL, MULTI_HEAD, SDPA, Made
from .inexpressible import Inexpressible, Unfit
from .modules import Parts, parts_of_functional, parts_of_module

_SEQUENCES = ("query", "key", "value", "src", "tgt", "memory", "static_k", "static_v")
_HINTS = ("src_is_causal", "tgt_is_causal", "memory_is_causal")


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype, without `torch.`."""
    return str(dtype).removeprefix("torch.")


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """The contents as an array in a NumPy dtype that holds them; it may share memory with the tensor."""
    try:
        return to_numpy(tensor)
    except (RuntimeError, NotImplementedError) as error:
        raise Inexpressible(f"its device, {tensor.device}, cannot be read: {str(error).splitlines()[0]}") from None


def described(made: Made) -> tuple[Case, Observation]:
    """The case of a call and what was observed. Raises Inexpressible, or Unfit for masks that fit no shape."""
    case, parts = _kinds(made)(made)
    case = replace(case, **_circumstances(made, case, parts))
    return _with_contents(made, case, parts), observation(made)


def _kinds(made) -> Callable[[Made], tuple[Case, Parts]]:
    if made.function == SDPA:
        return _scaled_dot_product
    return _multi_head if made.function in (MULTI_HEAD, FUNCTIONAL) else _transformer


def observation(made: Made) -> Observation:
    """The results, the error and the paths of a call. Warnings are the program's own, and not looked at."""
    served = tuple(made.served)
    if made.error is not None:
        return Observation(error=(type(made.error).__name__, str(made.error)), served=served)
    results = made.result if isinstance(made.result, tuple) else (made.result,)
    named = {name: one for name, one in zip(("output", "weights"), results, strict=False) if one is not None}
    if any(one.is_nested for one in named.values()):
        raise Inexpressible("its result is a nested tensor")
    dtypes = {name: dtype_name(one.dtype) for name, one in named.items()}
    return Observation({name: to_array(one) for name, one in named.items()}, dtypes, served=served)


# ---- kinds of calls ------------------------------------------------------------------------------------------------


def _scaled_dot_product(made):
    query, key, value = (made.arguments[name] for name in ("query", "key", "value"))
    is_grouped = bool(made.arguments["enable_gqa"])
    batch, L, D = tuple(query.shape[:-2]), query.shape[-2], query.shape[-1]
    S, heads = key.shape[-2], key.shape[-3] if is_grouped and key.ndim > 2 else None
    kv_batch = batch if heads is None else (*batch[:-1], heads)
    for name, tensor in (("key", key), ("value", value)):
        if not _expands(tuple(tensor.shape[:-2]), kv_batch):
            raise Inexpressible(f"the batch of {name} is larger than that of the query")
    if value.shape[-2] != S or key.shape[-1] != D:
        raise Unfit(f"query {_shape(query)}, key {_shape(key)} and value {_shape(value)} do not fit each other")
    mask, shape = made.masks.get("attn_mask"), {}
    if mask is not None:
        shape = _shape_of_mask(mask, batch, L, S)
    return ScaledDotProduct(
        batch=batch,
        L=L,
        S=S,
        D=D,
        Dv=value.shape[-1],
        is_causal=bool(made.arguments["is_causal"]),
        scale=None if made.arguments["scale"] is None else float(made.arguments["scale"]),
        kv_heads=heads,
        dropout=float(made.arguments["dropout_p"]),
        **shape,
    ), Parts()


def _shape_of_mask(mask, batch, L, S):
    """The fields of a case that tell the shape of the mask."""
    if not _expands(tuple(mask.shape), (*batch, L, S)):
        raise Unfit(f"attn_mask {_shape(mask)} does not broadcast to the scores {(*batch, L, S)}")
    if mask.ndim < 2:
        return {"broadcast": f"{mask.ndim}-D"}
    rows, columns = mask.shape[-2:]
    broadcast = "S" if columns == 1 < S else "L" if rows == 1 < L else ""
    return {"broadcast": broadcast, "mask_batch": tuple(mask.shape[:-2])}


def _expands(shape, to):
    """True if a tensor of this shape broadcasts to the other, without making it larger."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(size in (1, other) for size, other in pairs)


def _multi_head(made):
    parts = parts_of_functional(made.arguments) if made.module is None else parts_of_module(made.module)
    query, key, value = (made.arguments[name] for name in ("query", "key", "value"))
    batched, batch_first = query.ndim == 3, bool(parts.config.get("batch_first"))
    lengths = [tensor.shape[(1 if batch_first else 0) if batched else 0] for tensor in (query, key, value)]
    samples = [tensor.shape[0 if batch_first else 1] if batched else 1 for tensor in (query, key, value)]
    if len(set(samples)) > 1 or lengths[1] != lengths[2] or {query.ndim, key.ndim, value.ndim} - {2, 3}:
        raise Unfit(f"query {_shape(query)}, key {_shape(key)} and value {_shape(value)} do not fit each other")
    is_functional = made.module is None
    average, hint = made.arguments.get("average_attn_weights", True), made.arguments.get("is_causal", False)
    case = MultiHead(
        N=samples[0],
        L=lengths[0],
        S=lengths[1],
        attention="self" if query is key and key is value else "cross" if key is value else "distinct",
        is_causal=bool(hint),
        need_weights=bool(made.arguments["need_weights"]),
        average_attn_weights=bool(average),
        training=bool(made.arguments["training"]) if is_functional else made.module.training,
        batched=batched,
        functional=is_functional,
        static=made.arguments.get("static_k") is not None,
        **parts.config,
    )
    sizes = {"attn_mask": (case.L, case.S), "key_padding_mask": (case.N, case.S)}
    _require_shapes(made, case, sizes)
    return case, parts


def _transformer(made):
    parts = parts_of_module(made.module)
    sequences = {name: made.arguments[name] for name in ("src", "tgt", "memory") if name in made.arguments}
    source, target = sequences.get("src", sequences.get("memory")), sequences.get("tgt")
    batched, first = source.ndim == 3, parts.config["batch_first"]
    axis = (1 if first else 0) if batched else 0
    N = source.shape[0 if first else 1] if batched else 1
    if target is not None and (target.ndim != source.ndim or (batched and target.shape[1 - axis] != N)):
        raise Unfit(f"{' and '.join(f'{name} {_shape(its)}' for name, its in sequences.items())} do not fit each other")
    S, T = source.shape[axis], 1 if target is None else target.shape[axis]
    hints = {name: made.arguments.get(name) for name in _HINTS}
    if made.function.startswith("TransformerEncoder"):
        hints = {"src_is_causal": made.arguments.get("is_causal")}
    if made.function.endswith("Layer"):
        hints = {name: hint or None for name, hint in hints.items()}
    case = Transformer(
        module=made.function,
        N=N,
        S=S,
        T=T,
        training=made.module.training,
        batched=batched,
        **{name: None if hint is None else bool(hint) for name, hint in hints.items()},
        **parts.config,
    )
    sizes = {"src_mask": (S, S), "tgt_mask": (T, T), "memory_mask": (T, S)}
    sizes |= {f"{name}_key_padding_mask": (N, T if name == "tgt" else S) for name in ("src", "tgt", "memory")}
    _require_shapes(made, case, sizes)
    return case, parts


def _require_shapes(made, case, sizes):
    """Raise Unfit unless each mask has its shape, or that of one mask for each head."""
    for name, mask in made.masks.items():
        right = sizes[name]
        if is_padding(name) and not case.batched:
            right = right[1:]
        per_head = (case.N * case.num_heads, *right)
        if tuple(mask.shape) != right and (is_padding(name) or tuple(mask.shape) != per_head):
            rights = f"{right}" if is_padding(name) else f"{right} or {per_head}"
            raise Unfit(f"{name} has shape {_shape(mask)}, not {rights}")


def _shape(tensor):
    return tuple(tensor.shape)


# ---- circumstances and contents ------------------------------------------------------------------------------------


def _circumstances(made: Made, case: Case, parts: "Parts") -> dict[str, Any]:
    """The fields of dtype, masks, autograd, mode and fast path."""
    tensors = [made.arguments[name] for name in _SEQUENCES if isinstance(made.arguments.get(name), torch.Tensor)]
    dtypes = {dtype_name(tensor.dtype) for tensor in (*tensors, *parts.weights.values())}
    if len(dtypes) > 1:
        raise Inexpressible(f"its inputs and parameters have several dtypes: {', '.join(sorted(dtypes))}")
    dtype = dtypes.pop()
    if dtype not in PRECISIONS:
        raise Inexpressible(f"its dtype is {dtype}")
    fields: dict[str, Any] = {"dtype": dtype, "autograd": _autograd(made, case, parts, tensors)}
    fields |= {name: _mask(name, mask, dtype, case) for name, mask in made.masks.items()}
    if case.has_fast_path:
        fields["fast_path"] = made.around.has_fast_path
    fields["mode"] = _mode(made)
    if any(not tensor.is_contiguous() for tensor in tensors):
        fields["layout"] = "transposed"
    return fields


def _mode(made):
    lowered = made.around.autocast
    if lowered is None:
        return "default_device" if made.around.is_overridden else "eager"
    if lowered not in ("bfloat16", "float16"):
        raise Inexpressible(f"autocast to {lowered}")
    return "autocast" if lowered == "bfloat16" else "autocast_float16"


def _mask(name, mask, inputs_dtype, case):
    dtype = dtype_name(mask.dtype)
    if dtype == "bool":
        form = {"form": "bool"}
    elif dtype in PRECISIONS:
        form = {"form": "float", "dtype": None if dtype == inputs_dtype else dtype}
    else:
        raise Unfit(f"{name} has dtype {dtype}, not bool or a floating dtype")
    per_head = not is_padding(name) and mask.ndim == 3 and case.has_parameters
    return Mask(**form, per_head=per_head, layout="contiguous" if mask.is_contiguous() else "transposed")


def _autograd(made, case, parts, tensors):
    """The value of Case.autograd by which the release chooses the same paths."""
    if made.around.infers:
        return "inference_mode"
    if not made.around.records:
        return "no_grad"
    of_inputs = any(tensor.requires_grad for tensor in tensors)
    trained = [name for name, weight in parts.weights.items() if weight.requires_grad]
    if any(mask.requires_grad for mask in made.masks.values()):
        if not (of_inputs or trained) and case.num_layers > 1:  # its output requires a gradient
            raise Inexpressible("only its masks require a gradient, so that its first layer may take a path of its own")
        return "grad" if of_inputs or trained else "mask"
    if not (of_inputs or trained):
        return "frozen"
    is_stacked = case.has_layers and not case.training and case.batched and case.batch_first
    if of_inputs or len(trained) == len(parts.weights) or not is_stacked:
        return "inputs"  # recorded, without a mask that requires a gradient
    return _autograd_of_parameters(case, trained)


def _autograd_of_parameters(case, trained):
    """The value of Case.autograd if autograd records some parameters of layers, and no input."""
    stacks = {name.partition(".")[0] for name in trained} if case.module == "Transformer" else {""}
    early = [name for name in trained if "layers." in name and f"layers.{case.num_layers - 1}." not in name]
    if len(stacks) == 1 and not early:
        return "one_parameter"
    firsts = [name for name in trained if "layers.0." in name and "self_attn." in name]
    if len({name.partition("layers.")[0] for name in firsts}) < 1 + (case.module == "Transformer"):
        raise Inexpressible("autograd records some of its parameters and not others")
    return "inputs"  # the first attention of each stack is recorded, and so is all that follows


def _first_trained(case, parts):
    """The parameter that decides if attentions are recorded: one of a self-attention, if any is."""
    trained = [name for name, weight in parts.weights.items() if weight.requires_grad]
    firsts = ("self_attn.", "norm1.") if case.norm_first else ("self_attn.",)
    return next((name for first in firsts for name in trained if first in name), next(iter(trained), ""))


def _with_contents(made: Made, case: Case, parts: "Parts") -> Case:
    """The case with the numbers of the call."""
    arrays = _input_arrays(made, case)
    masks = {}
    for name, mask in made.masks.items():
        array = as_held(case, name, to_array(mask))
        if array.dtype != bool:
            array = array.astype(np.result_type(array.dtype, held(case.dtype)))
        masks[name] = array
    weights = {name: to_array(weight) for name, weight in parts.weights.items()}
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise Inexpressible("its parameters hold NaN or inf")
    trained = _first_trained(case, parts) if case.autograd == "one_parameter" else ""
    case = replace(case, seed=GivenContents(arrays, masks, weights, trained))
    return with_nan(case)


def _input_arrays(made, case) -> Mapping[str, np.ndarray]:
    names = [name for name in _SEQUENCES if isinstance(made.arguments.get(name), torch.Tensor)]
    if isinstance(case, MultiHead):
        names = [name for name in names if name == "query" or case.attention != "self" or name.startswith("static")]
        names = [name for name in names if name != "value" or case.attention == "distinct"]
    arrays = {name: as_held(case, name, to_array(made.arguments[name])) for name in names}
    if isinstance(case, ScaledDotProduct):
        kv_batch = case.batch if case.kv_heads is None else (*case.batch[:-1], case.kv_heads)
        for name in ("key", "value"):
            arrays[name] = np.broadcast_to(arrays[name], (*kv_batch, *arrays[name].shape[-2:]))
    return arrays


def with_nan(case: Case) -> Case:
    """The case with the fields that announce NaN. Raises Inexpressible if NaN or inf is seen by some query."""
    spoiled = {name: ~np.isfinite(array).all(axis=-1) for name, array in inputs(case).items()}
    spoiled = {name: where for name, where in spoiled.items() if where.any()}
    if not spoiled:
        return case
    positions = ignored(case)
    for name, where in spoiled.items():
        source = "key" if name == "value" else name
        if name == "query" and case.attention in ("distinct", "cross", ""):
            case = replace(case, nan_query=True)
        elif source in positions and not (where & ~positions[source]).any():
            case = replace(case, nonfinite="nan")
        else:
            raise Inexpressible(f"its {name} holds NaN or inf")
    return case


def count_of_scores(case: Case) -> int:
    """The number of scores of the largest attention of the case."""
    return max(int(np.prod(where.shape)) for where in hidden(case))
