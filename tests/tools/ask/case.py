"""The case that a call amounts to: as it was read (text.py), with the masks that are named by their kind."""

from dataclasses import dataclass, field, replace

import torch

from tests.harness.cases.case import (
    OF_ONE_LENGTH,
    Case,
    MultiHead,
    ScaledDotProduct,
    Transformer,
    hint_about,
    is_padding,
)
from tests.harness.cases.dtypes import PRECISIONS
from tests.harness.cases.masks import Given, Mask
from tests.harness.command_line import BadInput
from tests.harness.contents.arrays import parameters
from tests.harness.modes.modes import EAGER

from . import flex
from .masks import given_mask, kind_of_mask, layout_of
from .signatures import CALLS
from .size import computable
from .text import Asked
from .values import Named, Unknown, both

HEADS, FEATURES = 4, 8  # of a query whose shape is not told
_SEEDS = 1_000


@dataclass(frozen=True)
class Situation:
    """What the command line says; None where it leaves that to the text. masks: {argument: kind, as it is typed}."""

    masks: dict = field(default_factory=dict)
    training: bool | None = None
    autograd: str | None = None
    mode: str | None = None
    dtype: str | None = None
    fast_path: bool | None = None
    batch: int | None = None
    length: int | None = None
    memory_length: int | None = None


def case_of(asked: Asked, situation: Situation | None = None) -> Case:
    """The case of a call. Raises BadInput, which names the argument."""
    situation = situation or Situation()
    if asked.kind == "scaled_dot_product_attention":
        _refuse_mask_and_hint(asked, situation)
    make = {"scaled_dot_product_attention": _scaled_dot_product, "multi_head_attention_forward": _functional}
    make |= {"MultiheadAttention": _multi_head, "flex_attention": flex.case_of_flex}
    case = make.get(asked.kind, _transformer)(_Call(asked, situation))
    _refuse_what_is_undefined(case)
    return computable(case)


# ---- what the text and the command line say together ---------------------------------------------------------------

_RENAMED = {("TransformerEncoder", "mask"): "src_mask"}  # as a case has it
_RENAMED |= {("flex_attention", name): renamed for name, renamed in flex.RENAMED.items()}


class _Call:
    """A call with names as a case has them. shape(name): of a tensor that is told, else None."""

    def __init__(self, asked, situation):
        self.asked, self.situation, self.kind = asked, situation, asked.kind
        self.given = {_RENAMED.get((self.kind, name), name): value for name, value in asked.given.items()}
        self.layer = self._layer()
        self.constructed = dict(asked.made.arguments) if asked.made else {}
        self.masks = self._masks()

    def _layer(self):
        """The arguments of the constructor of a stack's layer, or of the module itself."""
        made = self.asked.made
        if made is None:
            return {}
        name = {"TransformerEncoder": "encoder_layer", "TransformerDecoder": "decoder_layer"}.get(self.kind)
        if name is None:
            return made.arguments
        layer = made.arguments.get(name)
        if getattr(layer, "kind", None) != f"{self.kind}Layer":
            raise BadInput(f"{name}: an nn.{self.kind}Layer(...) is wanted")
        return layer.arguments

    def number(self, name, default=None, of=None, kind=int):
        """A number, or truth value, among the arguments of the constructor."""
        value = (self.layer if of is None else of).get(name, default)
        if value is None and default is None and kind is int and name not in ("kdim", "vdim"):
            raise BadInput(f"{self.kind}: {name} is missing")
        if isinstance(value, Unknown):
            raise BadInput(f"{name}={value.text}: the text does not tell its value; write the number")
        if value is not None and not isinstance(value, (int, float)):
            raise BadInput(f"{name}={value!r}: a number is wanted")
        return value

    def option(self, name, default):
        """An argument of the call that is no tensor."""
        return self.number(name, default, of=self.given, kind=float)

    def shape(self, name):
        value = self.given.get(name)
        return tuple(value.shape) if torch.is_tensor(value) else None

    # ---- masks

    def _masks(self):
        """{argument: Mask or tensor}"""
        names = [name for name in CALLS[self.kind].split() if name.endswith(("mask", "score_mod"))]
        takes = [_RENAMED.get((self.kind, name), name) for name in names]
        named = {_RENAMED.get((self.kind, name), name): kind for name, kind in self.situation.masks.items()}
        paddings = [name for name in takes if is_padding(name)]
        if paddings and "padding" in named:  # all of them
            named |= dict.fromkeys(paddings, named.pop("padding"))
        for name in named:
            if name not in takes:
                raise BadInput(f"{self.kind} takes no mask {name}; it takes {', '.join(names)}")
        given = {name: self.given[name] for name in takes if self.given.get(name) is not None} | named
        return {
            name: self._mask(name, value)
            for name, value in given.items()
            if not (isinstance(value, str) and value == "None")
        }

    def _mask(self, name, value):
        if isinstance(value, (str, Named)):
            argument = next((its for (_, its), renamed in _RENAMED.items() if renamed == name), name)
            return kind_of_mask(str(value), argument)
        if torch.is_tensor(value):
            return value
        if self.kind == "flex_attention":
            return flex.kept(value)[0] if name == "kept_mask" else flex.added()
        told = getattr(value, "text", value)
        raise BadInput(
            f"{name}={told if told is not ... else '...'}: which mask that is, the text does not tell; "
            f"say it by --mask {name}=bool:{'trailing' if is_padding(name) else 'causal'}, or by --mask {name}=None"
        )

    def held(self, case):
        """The case with its masks."""
        masks = {name: mask for name, mask in self.masks.items() if isinstance(mask, Mask)}
        masks |= {name: given_mask(case, name, mask) for name, mask in self.masks.items() if torch.is_tensor(mask)}
        return replace(case, **masks)

    # ---- what every case has

    def common(self, has_parameters):
        return {"dtype": self.dtype(), "autograd": self.autograd(has_parameters), "mode": self.mode, **self.contents()}

    @property
    def mode(self):
        return both(self.asked.mode, self.situation.mode or EAGER.id)

    def dtype(self):
        made = self.asked.made
        told = [self.situation.dtype, made and made.dtype, self.layer.get("dtype")]
        told += [value.dtype for name, value in self.given.items() if self.is_sequence(name)]
        dtype = str(next((its for its in told if its is not None), "float32")).removeprefix("torch.")
        if dtype not in PRECISIONS:
            raise BadInput(f"dtype={dtype}: not one of {', '.join(PRECISIONS)}")
        return dtype

    def is_sequence(self, name):
        value = self.given.get(name)
        return torch.is_tensor(value) and value.is_floating_point() and not name.endswith("mask")

    def contents(self):
        """NaN and infinity in the inputs, and how these lie in memory."""
        sequences = {name: self.given[name] for name in self.given if self.is_sequence(name)}
        layout = next((its for its in map(layout_of, sequences.values()) if its != "contiguous"), "contiguous")
        spoiled = {name: "nan" for name, tensor in sequences.items() if tensor.isnan().any()}
        spoiled |= {name: "inf" for name, tensor in sequences.items() if tensor.isinf().any() and name not in spoiled}
        if spoiled.get("query") == "nan" and self.attention() not in OF_ONE_LENGTH:
            return {"layout": layout, "nan_query": True}
        if not spoiled:
            return {"layout": layout}
        seed = {("key",): 1, ("value",): 2}.get(tuple(spoiled), 0)  # by which a case of an attention alone says it
        return {"layout": layout, "nonfinite": next(iter(spoiled.values())), "seed": seed}

    def autograd(self, has_parameters):
        """One of case.AUTOGRAD, or "parameters": what requires a gradient."""
        if self.situation.autograd:
            return self.situation.autograd
        if self.asked.context in ("no_grad", "inference_mode"):
            return self.asked.context
        inputs = [name for name in self.given if self.is_sequence(name) and self.given[name].requires_grad]
        if not (self.asked.made or any(map(self.is_sequence, self.given))):
            inputs = ["query"]  # of tensors that the text does not tell, as in a model that is trained
        masks = [name for name, mask in self.masks.items() if torch.is_tensor(mask) and mask.requires_grad]
        trained = self.asked.made.trained if has_parameters and self.asked.made else "none"
        if trained not in ("all", "none", "last_layer"):
            return "one_parameter"
        if trained == "last_layer" and not masks:
            return "last_layer"
        if trained == "none":
            return {(0, 0): "frozen", (1, 0): "inputs", (0, 1): "mask"}.get((bool(inputs), bool(masks)), "grad")
        return "grad" if masks else "parameters"

    @property
    def training(self):
        """A module is in training mode until it is told."""
        its = self.asked.made.training if self.asked.made else True
        return its if self.situation.training is None else self.situation.training

    @property
    def fast_path(self):
        return self.asked.fast_path if self.situation.fast_path is None else self.situation.fast_path

    def same(self, one, other):
        """True if two arguments are one and the same value."""
        one, other = self.given.get(one), self.given.get(other)
        return one is other or (isinstance(one, Unknown) and one == other)

    def attention(self):
        """MultiHead.attention: which of query, key and value are one."""
        if self.same("key", "value") or "value" not in self.given:
            return "self" if self.same("query", "key") else "cross"
        if self.same("query", "key"):
            return "query_is_key"
        tensors = [self.given.get(name) for name in ("query", "key", "value")]
        is_told = all(map(torch.is_tensor, tensors)) and len({tensor.shape for tensor in tensors}) == 1
        is_alike = is_told and all(torch.equal(*map(torch.nan_to_num, (tensors[0], tensor))) for tensor in tensors[1:])
        return "copies" if is_alike else "distinct"

    def activation(self):
        value = self.layer.get("activation", "relu")
        text = value.text if isinstance(value, Unknown) else str(value)
        by_text = {"torch.relu": "relu", "F.relu": "relu", "nn.ReLU()": "relu", "F.gelu": "gelu", "nn.GELU()": "gelu"}
        text = text.replace("torch.nn.functional.", "F.").replace("torch.nn.", "nn.").replace('"', "'")
        if text.startswith("functools.partial(F.gelu"):
            return "gelu_tanh_function"
        if text == "nn.GELU(approximate='tanh')":
            return "gelu_tanh"
        return by_text.get(text, text if text in ("relu", "gelu") else "silu")

    # ---- sizes

    def sizes(self, wanted, told):
        """{size: number}. told: (size, number) by the tensors; what they leave open the command line says."""
        found = {}
        for name, size in told:
            if found.setdefault(name, size) != size:
                raise BadInput(f"{wanted[name][0]} is {found[name]} by one tensor, and {size} by another")
        for name, (option, default) in wanted.items():
            by_option = getattr(self.situation, option.replace("-", "_"))
            found.setdefault(name, by_option if by_option is not None else default)
        return found

    def by_masks(self, attentions, heads=1):
        """(size, number) as the masks that are tensors tell it. attentions: (mask, padding, queries, keys)."""
        for attn_mask, padding, rows, columns in attentions:
            most = 3 if self.asked.made else 9  # dimensions
            if torch.is_tensor(mask := self.masks.get(attn_mask)) and 2 <= mask.ndim <= most:
                yield from ((rows, mask.shape[-2]), (columns, mask.shape[-1]))
                if mask.ndim == 3 and mask.shape[0] % heads == 0:
                    yield "N", mask.shape[0] // heads
            if torch.is_tensor(mask := self.masks.get(padding)):
                yield columns, mask.shape[-1]
                if mask.ndim == 2:
                    yield "N", mask.shape[0]

    def by_inputs(self, lengths, batch_first):
        """The same by the inputs. lengths: {argument: its size}."""
        for name, size in lengths.items():
            shape = self.shape(name)
            if shape is None:
                continue
            if len(shape) not in (2, 3):
                raise BadInput(f"{name} has shape {shape}: two dimensions without a batch, three with one, are wanted")
            if shape[-1] != self.width and name in ("query", "src", "tgt"):
                raise BadInput(f"{name} has shape {shape}, of {shape[-1]} features: {self.width} are wanted")
            yield "N", shape[not batch_first] if len(shape) == 3 else 1
            yield size, shape[0] if len(shape) == 2 else shape[batch_first]

    def is_batched(self, *names):
        shape = next((self.shape(name) for name in names if self.shape(name)), (0, 0, 0))
        return len(shape) == 3


# ---- by kind -------------------------------------------------------------------------------------------------------


def _embedding(call, name, heads, of=None):
    width, number = call.number(name, of=of), call.number(heads, of=of)
    for argument, given in ((name, width), (heads, number)):
        if given < 1:
            raise BadInput(f"{argument}={given}: less than 1")
    if width % number:
        raise BadInput(f"{name}={width} is not divisible by {heads}={number}")
    call.width = width
    return {"num_heads": number, "head_dim": width // number}


def _multi_head(call):
    return _any_multi_head(call, _embedding(call, "embed_dim", "num_heads"), bool(call.number("batch_first", False)))


def _any_multi_head(call, embedding, batch_first, **more):
    attention = call.attention()
    number_of_keys = "L" if attention in ("self", "query_is_key") else "S"
    wanted = {"N": ("batch", 2), "L": ("length", 5)} | ({"S": ("memory-length", 7)} if number_of_keys == "S" else {})
    told = [*call.by_inputs({"query": "L", "key": number_of_keys, "value": number_of_keys}, batch_first)]
    told += call.by_masks((("attn_mask", "key_padding_mask", "L", number_of_keys),), embedding["num_heads"])
    sizes = call.sizes(wanted, told)
    of_layer = {name: call.number(name, default) for name, default in _OF_ATTENTION.items() if name in call.layer}
    options = {name: bool(call.option(name, default)) for name, default in _OF_CALL.items()}
    case = MultiHead(
        **call.common(not more.get("functional")),
        **embedding,
        N=sizes["N"],
        L=sizes["L"],
        S=sizes[number_of_keys],
        attention=attention,
        batched=call.is_batched("query", "key"),
        batch_first=batch_first,
        **{"training": call.training, "fast_path": call.fast_path} | of_layer | options | more,
    )
    return call.held(_with_the_parameter(call, case))


_OF_ATTENTION = {"dropout": 0.0, "bias": True, "add_bias_kv": False, "add_zero_attn": False, "kdim": None, "vdim": None}
_OF_CALL = {"need_weights": True, "average_attn_weights": True, "is_causal": False}


def _functional(call):
    embedding = _embedding(call, "embed_dim_to_check", "num_heads", of=call.given)
    is_none = {name: call.given.get(name) is None for name in ("bias_k", "in_proj_bias", "static_k")}
    shapes = {name: call.shape(f"{name[0]}_proj_weight") for name in ("kdim", "vdim")}
    more = {
        "functional": True,
        "training": bool(call.option("training", True)),
        "dropout": call.option("dropout_p", 0.0),
        "add_zero_attn": bool(call.option("add_zero_attn", False)),
        "add_bias_kv": not is_none["bias_k"],
        "bias": not is_none["in_proj_bias"],
        "static": not is_none["static_k"],
        **{name: shape[-1] for name, shape in shapes.items() if shape},
    }
    return _any_multi_head(call, embedding, False, **more)


_STREAMS = {
    "Encoder": ({"src": "S"}, (("src_mask", "src_key_padding_mask", "S", "S"),)),
    "Decoder": (
        {"tgt": "T", "memory": "S"},
        (
            ("tgt_mask", "tgt_key_padding_mask", "T", "T"),
            ("memory_mask", "memory_key_padding_mask", "T", "S"),
        ),
    ),
}
_STREAMS[""] = {"src": "S", "tgt": "T"}, _STREAMS["Encoder"][1] + _STREAMS["Decoder"][1]


def _transformer(call):
    part = call.kind.removeprefix("Transformer").removesuffix("Layer")
    lengths, attentions = _STREAMS[part]
    batch_first = bool(call.number("batch_first", False))
    defaults = (512, 8) if call.kind == "Transformer" else (None, None)
    embedding = {"d_model": call.number("d_model", defaults[0]), "nhead": call.number("nhead", defaults[1])}
    call.layer = {**call.layer, **embedding}
    embedding = _embedding(call, "d_model", "nhead")
    wanted = {"N": ("batch", 2), "S": ("length", 5)}
    if part != "Encoder":
        wanted |= {"S": ("memory-length", 7), "T": ("length", 5)}
    told = [*call.by_inputs(lengths, batch_first), *call.by_masks(attentions, embedding["num_heads"])]
    case = Transformer(
        module=call.kind,
        **call.common(True),
        **embedding,
        **call.sizes(wanted, told),
        **_hints(call),
        training=call.training,
        dropout=call.number("dropout", 0.1),
        dim_feedforward=call.number("dim_feedforward", 2048),
        layer_norm_eps=call.number("layer_norm_eps", 1e-5),
        activation=call.activation(),
        norm_first=bool(call.number("norm_first", False)),
        bias=bool(call.number("bias", True)),
        batched=call.is_batched("src", "tgt", "memory"),
        batch_first=batch_first,
        fast_path=call.fast_path,
        **_stack(call),
    )
    return call.held(_with_the_parameter(call, case))


def _stack(call):
    """What a stack has beside its layer."""
    if call.kind.endswith("Layer"):
        return {}
    if call.kind == "Transformer":
        numbers = [call.number(f"num_{part}_layers", 6) for part in ("encoder", "decoder")]
        if numbers[0] != numbers[1]:
            raise BadInput(
                f"num_encoder_layers={numbers[0]}, num_decoder_layers={numbers[1]}: only as many of each are modelled"
            )
        return {"num_layers": _at_least_one("num_encoder_layers", numbers[0])}
    number = _at_least_one("num_layers", call.number("num_layers", of=call.constructed))
    found = {"num_layers": number, "norm": bool(call.constructed.get("norm"))}
    switches = {name: call.number(name, True, of=call.constructed) for name in ("enable_nested_tensor", "mask_check")}
    return found | ({name: bool(value) for name, value in switches.items()} if "Encoder" in call.kind else {})


def _at_least_one(name, number):
    if number < 1:
        raise BadInput(f"{name}={number}: less than 1")
    return number


def _hints(call):
    """The hints that are given, by the names of a case."""
    names = {name: name for name in ("src_is_causal", "tgt_is_causal", "memory_is_causal")}
    names["is_causal"] = "src_is_causal"
    given = {name: call.given[name] for name in names if call.given.get(name) is not None}
    return {names[name]: bool(call.number(name, of=given, kind=float)) for name in given}


def _scaled_dot_product(call):
    shapes = {name: call.shape(name) for name in ("query", "key", "value")}
    known = next((shape for shape in shapes.values() if shape), None)
    masks = [("attn_mask", "", "L", "S")]
    of_mask = [pair for pair in call.by_masks(masks) if pair[0] in "LS" and pair[1] > 1]
    is_alike = not (shapes["key"] or shapes["value"]) and call.situation.memory_length is None
    wanted = {"L": ("length", 5)} | ({} if is_alike else {"S": ("memory-length", 7)})
    lengths = {"query": "L", "key": "S", "value": "S"}
    of_shape = [(lengths[name], shape[-2]) for name, shape in shapes.items() if shape]
    sizes = call.sizes(wanted, of_shape or of_mask)
    sizes.setdefault("S", sizes["L"])
    batch = (shapes["query"] or known or (call.situation.batch or 2, HEADS, 0, FEATURES))[:-2]
    kv_heads = None
    if call.option("enable_gqa", False):
        kv_heads = (shapes["key"] or shapes["value"] or (*batch, 0, 0))[-3]
    case = ScaledDotProduct(
        **call.common(False),
        **sizes,
        batch=tuple(batch),
        D=(shapes["query"] or shapes["key"] or (FEATURES,))[-1],
        Dv=(shapes["value"] or shapes["query"] or shapes["key"] or (FEATURES,))[-1],
        is_causal=bool(call.option("is_causal", False)),
        scale=call.option("scale", None),
        kv_heads=kv_heads,
        dropout=call.option("dropout_p", 0.0),
    )
    mask = call.masks.get("attn_mask")
    if isinstance(mask, Mask) and mask.per_head:
        call.masks["attn_mask"] = replace(mask, per_head=False)
        case = replace(case, mask_batch=case.batch)
    return call.held(replace(case, **_broadcast(case, tuple(mask.shape))) if torch.is_tensor(mask) else case)


def _broadcast(case, shape):
    """How a mask of this shape is broadcast to the scores."""
    if len(shape) < 2:
        return {"broadcast": "0-D" if not shape else "1-D"}
    dropped = [size for size, its in zip(("L", "S"), shape[-2:], strict=True) if its == 1 != getattr(case, size)]
    if len(dropped) > 1:
        raise BadInput(f"attn_mask has shape {shape}: one element for all scores is not modelled; expand it")
    return {"mask_batch": shape[:-2], "broadcast": "".join(dropped)}


# ---- the whole -----------------------------------------------------------------------------------------------------


def _with_the_parameter(call, case):
    """The case with the seed that chooses the only parameter that is trained."""
    if case.autograd != "one_parameter":
        return case
    name = getattr(call.asked.made, "trained", None)
    names = [its for its in parameters(case) if "layers." not in its or f"layers.{case.num_layers - 1}." in its]
    if name not in names:
        raise BadInput(f"{name}: only one parameter is trained, of the last layer, is modelled; {', '.join(names)}")
    return replace(case, seed=names.index(name))


def _refuse_what_is_undefined(case):
    """Raise BadInput for a call that no clause speaks of: a false hint, two masks that exclude each other."""
    for attention in case.attentions:
        name, hint = attention.attn_mask, getattr(case, hint_about(attention.attn_mask))
        mask = getattr(case, name)
        if hint and (mask is None or not _is_causal(mask)):
            raise BadInput(f"the hint is_causal=True is about {name}, which is no causal mask: that is undefined")


def _is_causal(mask):
    """True if the mask is causal; of one query and one key, one that hides nothing is, and one without elements."""
    if mask.pattern == "causal":
        return True
    is_small = isinstance(mask, Given) and (0 in mask.shape[-2:] or mask.shape[-2:] == (1, 1))
    return is_small and (0 in mask.shape[-2:] or mask.pattern == "none")


def _refuse_mask_and_hint(asked, situation):
    """Raise BadInput for a call of scaled_dot_product_attention with a mask and is_causal=True."""
    has_mask = asked.given.get("attn_mask") is not None or "attn_mask" in situation.masks
    if has_mask and asked.given.get("is_causal") is True:
        raise BadInput("scaled_dot_product_attention takes attn_mask or is_causal=True, not both: it raises")
