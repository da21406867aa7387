"""Parses the repr of a case. The text is never evaluated, since it may come from an untrusted record."""

import ast
from dataclasses import fields
from types import NoneType, UnionType
from typing import get_args, get_origin

from ..cases.case import (
    ATTENTIONS,
    AUTOGRAD,
    BLOCKS_BY,
    JOINED,
    LEARNED,
    LSE,
    Case,
    DotProduct,
    FlexAttention,
    MultiHead,
    ScaledDotProduct,
    SquareSubsequentMask,
    Transformer,
    is_padding,
)
from ..cases.dtypes import PRECISIONS
from ..cases.masks import ATTENTION_PATTERNS, LAYOUTS, PADDING_PATTERNS, VALUES, Mask, Merged, OverKeys, SeeingFirst
from ..cases.square_mask import DEVICES
from ..command_line import BadInput
from .modes import BY_ID

_CASES = (ScaledDotProduct, MultiHead, Transformer, FlexAttention, SquareSubsequentMask)
_KINDS = {kind.__name__: kind for kind in (*_CASES, Mask, Merged, OverKeys, SeeingFirst)}
_LONGEST = 10_000  # characters; far more than any case has

# The valid values of text fields.
_CHOICES = {
    "dtype": tuple(PRECISIONS),
    "given_dtype": tuple(PRECISIONS),
    "given_device": DEVICES,
    "default_device": DEVICES,
    "autograd": (*AUTOGRAD, "one_input", "parameters", LEARNED),
    "layout": LAYOUTS,
    "nonfinite": ("", "nan", "inf"),
    "mode": tuple(BY_ID),
    "broadcast": ("", "L", "S", "1-D", "0-D"),
    "blocks_by": BLOCKS_BY,
    "joined": JOINED,
    "lse": LSE,
    "attention": ATTENTIONS,
    "module": (
        *("TransformerEncoderLayer", "TransformerEncoder", "TransformerDecoderLayer", "TransformerDecoder"),
        "Transformer",
    ),
    "activation": ("relu", "gelu", "gelu_tanh", "gelu_tanh_function", "silu"),
    "form": ("bool", "float"),
    "values": VALUES,
    "pattern": tuple(dict.fromkeys((*ATTENTION_PATTERNS, "lower_right", *PADDING_PATTERNS))),
}
_OF_PADDING, _OF_ATTENTION = set(PADDING_PATTERNS), {*ATTENTION_PATTERNS, "lower_right", "right"}
_AT_LEAST_ONE = ("num_heads", "head_dim", "kv_heads", "num_layers", "block_size")


def parse(text: str) -> Case:
    """The case with this repr. Raises BadInput with one line that names the wrong field."""
    if len(text) > _LONGEST:
        raise BadInput(f"not a case: {len(text):,} characters")
    try:
        case = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # errors of ast.parse
        raise BadInput(f"not a case such as MultiHead(L=2): {text[:200]!r}") from None
    if not isinstance(case, Case):
        raise BadInput(f"not a case such as MultiHead(L=2): {text[:200]!r}")
    return case


def _value(node):
    """The value of an expression: a literal, or a dataclass of _KINDS whose fields are such expressions."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    kind = _KINDS.get(getattr(node.func, "id", None))
    if kind is None:
        raise BadInput(f"{ast.unparse(node.func)[:200]}: not one of {', '.join(_KINDS)}")
    if node.args or any(given.arg is None for given in node.keywords):
        raise BadInput(f"{kind.__name__}: takes named fields, as in {kind.__name__}(seed=1)")
    its_fields = {field.name: field for field in fields(kind)}
    made = {}
    for given in node.keywords:
        if given.arg not in its_fields:
            raise BadInput(f"{kind.__name__} has no field {given.arg}; it has {', '.join(its_fields)}")
        made[given.arg] = _value(given.value)
        _check(its_fields[given.arg], made[given.arg])
    value = kind(**made)
    if isinstance(value, DotProduct) and value.D == 0 and value.scale is None:
        raise BadInput("D=0: needs a scale, since the default scale is 1 / sqrt(D)")
    if isinstance(value, FlexAttention):
        _check_pairs(value)
    return value


def _check_pairs(case):
    """Raise BadInput if the sizes of a call of flex_attention do not fit each other, or kept_mask is no bool mask."""
    for name in ("batch", "mask_batch", "block_size"):
        if len(getattr(case, name)) != 2:
            raise BadInput(f"{name}={getattr(case, name)!r}: flex_attention takes two numbers")
    if any(size not in (1, whole) for size, whole in zip(case.mask_batch, case.batch, strict=True)):
        raise BadInput(f"mask_batch={case.mask_batch!r}: each number must be 1, or that of batch={case.batch!r}")
    if case.slices_samples and case.mask_batch[0] != case.batch[0]:
        raise BadInput(f"blocks_by={case.blocks_by!r}: mask_batch={case.mask_batch!r} must have a mask for each sample")
    if case.kept_mask is not None and case.kept_mask.is_float:
        raise BadInput("kept_mask: must be a bool mask, which mask_mod reads")


def _check(field, value):
    """Raise BadInput if the value is not valid for the field."""
    name, shown = field.name, repr(value)[:200]
    is_text = field.type is str or isinstance(value, str)
    if is_text and name in _CHOICES and value not in _CHOICES[name]:
        raise BadInput(f"{name}={shown}: not one of {', '.join(map(repr, _CHOICES[name]))}")
    if not _fits(value, field.type):
        raise BadInput(f"{name}={shown}: not of type {getattr(field.type, '__name__', field.type)}")
    least = int(name in _AT_LEAST_ONE)
    sizes = value if isinstance(value, tuple) else (value,)
    if any(type(size) is int and size < least for size in sizes if field.type is not float):
        raise BadInput(f"{name}={shown}: less than {least}")
    known = _OF_PADDING if is_padding(name) else _OF_ATTENTION
    if type(value) is Mask and value.pattern not in known:
        raise BadInput(f"{name}: pattern={value.pattern!r}: not one of {', '.join(map(repr, sorted(known)))}")


def _fits(value, kind):
    """True if the value is an instance of `kind`, the annotation of a field of a dataclass."""
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, get_args(kind)[0]) for part in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in (int, bool, str, NoneType) else isinstance(value, kind)
