"""Reads a module of torch as it is: the constructor arguments of a case, and its parameters.

Raises Inexpressible for a module whose code or parts are not torch's own, such as a subclass with its own forward.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .calls import LAYERS, MULTI_HEAD, STACKS
from .inexpressible import Inexpressible


@dataclass(frozen=True)
class Parts:
    """The parts of a module that a case needs."""

    config: Mapping[str, Any] = field(default_factory=dict)  # {field of a case: value}
    weights: Mapping[str, torch.Tensor] = field(
        default_factory=dict
    )  # {name in the state_dict of torch's module: tensor}


# Methods of each class that compute; a subclass that overrides one computes something else.
_METHODS = {
    MULTI_HEAD: ("forward", "merge_masks"),
    LAYERS[0]: ("forward", "_sa_block", "_ff_block"),
    LAYERS[1]: ("forward", "_sa_block", "_mha_block", "_ff_block"),
    **dict.fromkeys(STACKS, ("forward",)),
}


def parts_of_module(module: nn.Module) -> Parts:
    """The parts of an instance of one of the six classes, or of a subclass. Raises Inexpressible."""
    kind = next(name for name in _METHODS if isinstance(module, getattr(nn, name)))
    _require_own(module, kind)
    if kind == MULTI_HEAD:
        return _attention(module)
    if kind in LAYERS:
        return _layer(module, kind)
    if kind == "Transformer":
        return _transformer(module)
    return _stack(module, kind)


def parts_of_functional(arguments: Mapping[str, Any]) -> Parts:
    """The parts of a call of F.multi_head_attention_forward."""
    names = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    is_separate = arguments["use_separate_proj_weight"]
    unused = ("in_proj_weight",) if is_separate else names[4:]
    weights = {name: arguments[name] for name in names if name not in unused and arguments.get(name) is not None}
    weights |= {
        f"out_proj.{kind}": arguments[f"out_proj_{kind}"]
        for kind in ("weight", "bias")
        if arguments[f"out_proj_{kind}"] is not None
    }
    config = _config(
        weights, arguments["num_heads"], arguments["dropout_p"], arguments["add_zero_attn"], batch_first=False
    )
    return Parts(config, weights)


def _attention(module):
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v")
    weights = {name: weight for name in names if (weight := getattr(module, name)) is not None}
    weights |= _linear(module.out_proj, "out_proj")
    config = _config(weights, module.num_heads, module.dropout, module.add_zero_attn, module.batch_first)
    return Parts(config, weights)


def _config(weights, num_heads, dropout, add_zero_attn, batch_first):
    E = weights["out_proj.weight"].shape[0]
    sizes = {name: weights.get(f"{name[0]}_proj_weight") for name in ("kdim", "vdim")}
    return {
        "num_heads": num_heads,
        "head_dim": E // num_heads,
        "bias": "in_proj_bias" in weights,
        "add_bias_kv": "bias_k" in weights,
        "add_zero_attn": bool(add_zero_attn),
        "dropout": float(dropout),
        "batch_first": bool(batch_first),
        **{name: None if weight is None else weight.shape[1] for name, weight in sizes.items()},
    }


def _require_own(module, kind):
    """Raise Inexpressible unless the module computes with the code of torch's class `kind`."""
    base = getattr(nn, kind)
    for name in _METHODS.get(kind, ("forward",)):
        if getattr(type(module), name, None) is not getattr(base, name, None) or name in vars(module):
            raise Inexpressible(f"{type(module).__name__}.{name} is its own code, not that of nn.{kind}")


def _part(module, kind, what):
    """The submodule, which must be torch's own `kind`, without hooks that may change its result."""
    if not isinstance(module, getattr(nn, kind)):
        raise Inexpressible(f"{what} is {_kind_in_words(module)}, not nn.{kind}")
    _require_own(module, kind)
    if module._forward_hooks or module._forward_pre_hooks:
        raise Inexpressible(f"{what} has forward hooks")
    return module


def _kind_in_words(module):
    if module is None:
        return "missing"
    quantized = "quantized " * (".quantized." in type(module).__module__)  # its class is named as that of torch.nn
    return f"a {quantized}{type(module).__name__}"


def _linear(module, name):
    """{name: tensor} of the parameters of a linear layer, which must be torch's own."""
    if not isinstance(module, nn.Linear):
        raise Inexpressible(f"{name} is {_kind_in_words(module)}, not nn.Linear")
    if type(module.weight) not in (torch.Tensor, nn.Parameter):  # some quantize by a class of tensors
        raise Inexpressible(f"{name}.weight is a {type(module.weight).__name__}")
    weights = {f"{name}.weight": module.weight}
    return weights if module.bias is None else weights | {f"{name}.bias": module.bias}


def _layer(layer, kind):
    config, weights = {}, {}
    for name in ("self_attn", "multihead_attn")[: 1 + (kind == LAYERS[1])]:
        part = _part(getattr(layer, name), MULTI_HEAD, name)
        its = parts_of_module(part)
        if config and its.config != config:
            raise Inexpressible("its two attentions differ in their arguments")
        config = its.config
        weights |= _under(name, its.weights)
    for name in ("linear1", "linear2"):
        weights |= _linear(_part(getattr(layer, name), "Linear", name), name)
    eps = set()
    for name in ("norm1", "norm2", "norm3")[: 2 + (kind == LAYERS[1])]:
        weights |= _norm(getattr(layer, name), name)
        eps.add(getattr(layer, name).eps)
    if len(eps) > 1:
        raise Inexpressible("its norms have several eps")
    if any(config[name] for name in ("add_bias_kv", "add_zero_attn", "kdim", "vdim")):
        raise Inexpressible("its attention has add_bias_kv, add_zero_attn, kdim or vdim")
    names = ("num_heads", "head_dim", "batch_first", "bias")
    return Parts(
        {
            **{name: config[name] for name in names},
            "dropout": _dropout(layer, config),
            "dim_feedforward": layer.linear1.out_features,
            "activation": _activation(layer),
            "layer_norm_eps": eps.pop(),
            "norm_first": bool(layer.norm_first),
        },
        weights,
    )


def _dropout(layer, config):
    """The largest probability with which something is dropped in training."""
    parts = [part for name in ("dropout", "dropout1", "dropout2", "dropout3") if (part := getattr(layer, name, None))]
    attentions = [part for name in ("self_attn", "multihead_attn") if (part := getattr(layer, name, None))]
    if any(part.training != layer.training for part in (*parts, *attentions)):
        raise Inexpressible("its parts differ from it in `training`")
    return max([config["dropout"], *(part.p for part in parts)])


def _norm(norm, name):
    norm = _part(norm, "LayerNorm", name)
    if norm.weight is None:
        raise Inexpressible(f"{name} has no parameters")
    bias = {} if norm.bias is None else {f"{name}.bias": norm.bias}
    return {f"{name}.weight": norm.weight, **bias}


def _activation(layer):
    """The activation as cases name it, as it was given to the constructor."""
    given = layer._modules.get("activation", layer.activation)
    if given in (F.relu, torch.relu) or isinstance(given, nn.ReLU):
        return "relu"
    if given is F.silu or isinstance(given, nn.SiLU):
        return "silu"
    is_partial = isinstance(given, partial) and given.func is F.gelu and not given.args
    if is_partial and given.keywords == {"approximate": "tanh"}:
        return "gelu_tanh_function"
    if isinstance(given, nn.GELU) and given.approximate == "tanh":
        return "gelu_tanh"
    if given is F.gelu or (isinstance(given, nn.GELU) and given.approximate == "none"):
        return "gelu"
    raise Inexpressible(f"activation {getattr(given, '__name__', type(given).__name__)}")


def _under(prefix, weights):
    return {f"{prefix}.{name}": weight for name, weight in weights.items()}


def _stack(stack, kind):
    layers = [parts_of_module(_part(layer, f"{kind}Layer", f"layers.{i}")) for i, layer in enumerate(stack.layers)]
    if not layers:
        raise Inexpressible("it has no layers")
    if any(its.config != layers[0].config for its in layers):
        raise Inexpressible("its layers differ in their arguments")
    if any(layer.training != stack.training for layer in stack.layers):
        raise Inexpressible("its layers differ from it in `training`")
    weights = {
        name: weight for i, its in enumerate(layers) for name, weight in _under(f"layers.{i}", its.weights).items()
    }
    config = {**layers[0].config, "num_layers": len(layers), "norm": stack.norm is not None}
    if stack.norm is not None:
        weights |= _norm(stack.norm, "norm")
        if stack.norm.eps != config["layer_norm_eps"]:
            raise Inexpressible("its last norm has another eps than its layers")
    if kind == STACKS[0]:
        config["enable_nested_tensor"] = bool(stack.enable_nested_tensor)
        config["mask_check"] = bool(getattr(stack, "mask_check", True))
    return Parts(config, weights)


def _transformer(module):
    encoder = parts_of_module(_part(module.encoder, STACKS[0], "encoder"))
    decoder = parts_of_module(_part(module.decoder, STACKS[1], "decoder"))
    only = ("enable_nested_tensor", "mask_check")
    if {name: value for name, value in encoder.config.items() if name not in only} != decoder.config:
        raise Inexpressible("its encoder and its decoder differ in their arguments")
    config = {name: value for name, value in encoder.config.items() if name != "norm"}
    return Parts(config, _under("encoder", encoder.weights) | _under("decoder", decoder.weights))
