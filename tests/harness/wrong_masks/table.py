"""A table of calls with one wrong mask each (clause 9).

Each mask hides some keys, and each input is drawn from a seed, so the result tells which mask was applied (results.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn
from torch.nn import functional

from ..cases.case import is_padding
from ..execution.release import Release, takes
from ..judgement.outcomes import ACCEPTS, RAISES
from ..releases import since
from .tensor_text import random

UNBATCHED = "unbatched"  # prefix of the variants with unbatched inputs

# N samples; query and tgt have length L, key and src have length S. L != S makes a transposed mask wrong.
N, HEADS, L, S, E = 2, 2, 4, 6, 4
_LENGTHS = {"query": L, "tgt": L, "key": S, "value": S, "src": S, "memory": S}
SDPA = "scaled_dot_product_attention"


# ---- modules and functions -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Callee:
    """A module or function, with one way to call it."""

    module: str  # its name in torch.nn or torch.nn.functional
    masks: tuple[tuple[str, tuple[int, ...]], ...]  # ((argument, right shape), ...)
    inputs: tuple[str, ...]  # names of the inputs, in order
    made: str = ""  # an expression that makes the module; empty for a function
    options: str = ""  # further arguments of the call
    variant: str = ""  # the name of this way to call it
    features: int = E  # of each key and value

    @property
    def is_batched(self) -> bool:
        """True if the inputs have a batch dimension. A padding mask of unbatched inputs is 1-D."""
        return not self.variant.startswith(UNBATCHED)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of a call: inference opens the native paths. A function has one mode, ""."""
        return ("training", "inference") if self.made else ("",)

    def takes(self, argument: str) -> bool:
        """True if the installed release has this module or function, with this argument."""
        function = getattr(nn, self.module).forward if self.made else getattr(functional, self.module, None)
        if function is None:
            return False
        try:
            return takes(function, argument)
        except ValueError:  # a built-in function: it has had its masks and hints from the start
            return True


_LAYER = f"({E}, {HEADS}, {E}, dropout=0.0, batch_first=True)"
_ENCODER_LAYER = f"torch.nn.TransformerEncoderLayer{_LAYER}"
_DECODER_LAYER = f"torch.nn.TransformerDecoderLayer{_LAYER}"
_ATTENTION = f"torch.nn.MultiheadAttention({E}, {HEADS}, batch_first=True)"
_PROJECTED = f"torch.nn.MultiheadAttention({E}, {HEADS}, kdim={E + 1}, vdim={E + 1}, batch_first=True)"
_APPENDING = f"torch.nn.MultiheadAttention({E}, {HEADS}, add_bias_kv=True, add_zero_attn=True, batch_first=True)"
_SEQUENCE_FIRST = f"torch.nn.MultiheadAttention({E}, {HEADS})"
_TRANSFORMER = f"torch.nn.Transformer({E}, {HEADS}, 1, 1, {E}, dropout=0.0, batch_first=True)"
_WEIGHTS = f"{E}, {HEADS}, in_proj_weight, None, None, None, False, 0.0, out_proj_weight, None"
PARAMETERS = {"in_proj_weight": (3 * E, E), "out_proj_weight": (E, E)}  # of F.multi_head_attention_forward

_PADDING = ("key_padding_mask", (N, S))
_CROSS_MASKS = (("attn_mask", (L, S)), _PADDING)
_CROSS_INPUTS = ("query", "key", "key")
_ENCODER_PADDING = ("src_key_padding_mask", (N, S))
_DECODER_MASKS = (
    ("tgt_mask", (L, L)),
    ("memory_mask", (L, S)),
    ("tgt_key_padding_mask", (N, L)),
    ("memory_key_padding_mask", (N, S)),
)


def _ways(made):
    """(variant, expression that makes it) of a transformer: norms last; norms first, if a layer; unbatched."""
    first = ("norm_first", made.replace("batch_first", "norm_first=True, batch_first"))
    return (("", made), *[first] * (made in (_ENCODER_LAYER, _DECODER_LAYER)), (UNBATCHED, made))


def _masks(variant, masks):
    """The masks of the variant, from those for batched inputs; both are ((argument, right shape), ...)."""
    if not variant.startswith(UNBATCHED):
        return masks
    return tuple((name, shape[1:] if is_padding(name) else shape) for name, shape in masks)


_ENCODER_MASKS = (("src_mask", (S, S)), _ENCODER_PADDING)
# (module, masks, inputs, expression that makes it)
_TRANSFORMERS = (
    ("TransformerEncoderLayer", _ENCODER_MASKS, ("src",), _ENCODER_LAYER),
    (
        "TransformerEncoder",
        (("mask", (S, S)), _ENCODER_PADDING),
        ("src",),
        f"torch.nn.TransformerEncoder({_ENCODER_LAYER}, 1)",
    ),
    ("TransformerDecoderLayer", _DECODER_MASKS, ("tgt", "memory"), _DECODER_LAYER),
    ("TransformerDecoder", _DECODER_MASKS, ("tgt", "memory"), f"torch.nn.TransformerDecoder({_DECODER_LAYER}, 1)"),
    ("Transformer", (*_ENCODER_MASKS, *_DECODER_MASKS), ("src", "tgt"), _TRANSFORMER),
)

CALLEES = (
    Callee("MultiheadAttention", (("attn_mask", (S, S)), _PADDING), ("src",) * 3, _ATTENTION, variant="self"),
    *(
        Callee(
            "MultiheadAttention", _masks(variant, _CROSS_MASKS), _CROSS_INPUTS, made, variant=variant, features=features
        )
        for variant, made, features in (
            ("cross", _ATTENTION, E),
            ("kdim", _PROJECTED, E + 1),
            ("appended_keys", _APPENDING, E),
            ("sequence_first", _SEQUENCE_FIRST, E),
            (UNBATCHED, _ATTENTION, E),
        )
    ),
    *(
        Callee(
            "multi_head_attention_forward",
            _masks(variant, _CROSS_MASKS),
            _CROSS_INPUTS,
            options=f"{_WEIGHTS}, need_weights={not variant.endswith('no_weights')}",
            variant=variant,
        )
        for variant in ("weights", "no_weights", f"{UNBATCHED}_weights", f"{UNBATCHED}_no_weights")
    ),
    *(
        Callee(module, _masks(variant, masks), inputs, way, variant=variant)
        for module, masks, inputs, made in _TRANSFORMERS
        for variant, way in _ways(made)
    ),
    Callee(SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, variant="3d"),
    Callee(SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, variant="4d"),
    Callee(SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, options="enable_gqa=True", variant="grouped"),
)


# ---- faults --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A fault of a mask, or of the arguments beside it."""

    name: str
    # The right shape as arguments, (rows, keys), or (keys,) for unbatched padding -> the wrong shape; None: no mask.
    shape: Callable[..., tuple[int, ...] | None] = lambda *right: right
    dtype: str = "bool"  # of the mask
    inputs: str = "float32"  # dtype of the inputs
    elsewhere: bool = False  # the mask is on another device than the inputs
    hint: bool = False  # is_causal=True is given, too
    beside: bool = False  # the other mask of the same attention is given, too, and is right
    bias: str = ""  # the function of torch.nn.attention.bias that makes the mask; `dtype` is then unused
    samples: int = N  # the number of samples of the inputs
    length: int | None = None  # of all sequences, if they are longer than in other rows

    more = (0, 0, 0)  # added to the sizes of an input (sequences.py)

    @property
    def kind(self) -> str:
        """The name without its ending, which tells that another mask is given, or that the mask is a float mask."""
        return re.split("_beside_|_in_float32", self.name)[0]

    @property
    def is_float(self) -> bool:
        """True if the mask is a float mask, and none of torch.nn.attention.bias."""
        return self.dtype.startswith("float") and not self.bias

    @property
    def precision(self) -> str:
        """ "higher" or "lower" if a float mask has more or fewer digits than the inputs, else ""."""
        return self.name.partition("_precision")[0] if "_precision" in self.name else ""


RIGHT = Fault("right")  # no fault

_SIZES = (
    Fault("flat", lambda rows, keys: (rows * keys,)),
    Fault("reshaped", lambda rows, keys: (rows // 2, 2 * keys)),
    Fault("transposed", lambda rows, keys: (keys, rows)),
    Fault("too_few_keys", lambda rows, keys: (rows, keys - 1)),
    Fault("too_many_keys", lambda rows, keys: (rows, keys + 1)),
)
_VECTORS = (None, 16, 17, 33)  # as many keys as fill no vector of the CPU, one vector, one and a part, or two
_PRECISIONS = tuple(
    Fault(f"{name}_precision" + f"_{length}_keys" * bool(length), dtype=dtype, inputs=inputs, length=length)
    for length in _VECTORS
    for name, dtype, inputs in (("higher", "float64", "float32"), ("lower", "float32", "float64"))
)
_TYPES = (
    Fault("int64", dtype="int64"),
    Fault("uint8", dtype="uint8"),
    Fault("complex64", dtype="complex64"),
    *_PRECISIONS,
    Fault("other_device", elsewhere=True),
)
_QUERIES = (
    Fault("too_few_queries", lambda rows, keys: (rows - 1, keys)),
    Fault("too_many_queries", lambda rows, keys: (rows + 1, keys)),
)
_ONE_KEY = (
    Fault("one_dimension", lambda rows, keys: (keys,)),
    Fault("one_key", lambda rows, keys: (rows, 1)),
)


def _beside(other, faults):
    """The faults, each with a right mask of the other type in the same attention."""
    return tuple(replace(fault, name=f"{fault.name}_beside_{other}", beside=True) for fault in faults)


def _in_float32(faults):
    """The faults, each of a float mask."""
    return tuple(replace(fault, name=f"{fault.name}_in_float32", dtype="float32") for fault in faults)


_ATTENTION_SIZES = (
    *(*_SIZES, *_ONE_KEY, *_QUERIES),
    Fault("one_query", lambda rows, keys: (1, keys)),
    Fault("one_slice", lambda rows, keys: (1, rows, keys)),
    Fault("slice_per_sample", lambda rows, keys: (N, rows, keys)),
    Fault("too_many_slices", lambda rows, keys: (N * HEADS + 1, rows, keys)),
    Fault("slices_reshaped", lambda rows, keys: (N, HEADS * rows, keys)),
    Fault("four_dimensions", lambda rows, keys: (1, 1, rows, keys)),
    Fault("batch_and_heads", lambda rows, keys: (N, HEADS, rows, keys)),
)
_ATTENTION_MASK = (
    *_ATTENTION_SIZES,
    *_beside("padding", _ATTENTION_SIZES),
    *_in_float32((*_SIZES, *_QUERIES)),
    *_TYPES,
    Fault("hint_without_mask", lambda rows, keys: None, hint=True),
    Fault("hint_without_mask_beside_padding", lambda rows, keys: None, hint=True, beside=True),
    Fault("hint_with_too_few_keys", lambda rows, keys: (rows, keys - 1), hint=True),
    Fault("causal_bias", bias="causal_lower_right", samples=1),  # only scaled_dot_product_attention takes it
)
_PADDING_SIZES = (
    *(*_SIZES, *_ONE_KEY),
    Fault("one_sample", lambda rows, keys: (1, keys)),
    Fault("too_many_samples", lambda rows, keys: (rows + 1, keys)),
    Fault("three_dimensions", lambda rows, keys: (rows, 1, keys)),
    Fault("four_dimensions", lambda rows, keys: (rows, 1, 1, keys)),
)
_PADDING_MASK = (
    *_PADDING_SIZES,
    *_beside("attn_mask", _PADDING_SIZES),
    *_in_float32(_SIZES),
    *_TYPES,
)
_UNBATCHED_PADDING_SIZES = (
    Fault("no_dimension", lambda keys: ()),
    Fault("too_few_keys", lambda keys: (keys - 1,)),
    Fault("too_many_keys", lambda keys: (keys + 1,)),
    Fault("one_key", lambda keys: (1,)),
    Fault("one_sample", lambda keys: (1, keys)),
    Fault("too_many_samples", lambda keys: (N, keys)),
    Fault("transposed", lambda keys: (keys, 1)),
    Fault("reshaped", lambda keys: (2, keys // 2)),
)
_UNBATCHED_PADDING_MASK = (
    *_UNBATCHED_PADDING_SIZES,
    *_beside("attn_mask", _UNBATCHED_PADDING_SIZES),
    *_TYPES,
)
# Of scaled_dot_product_attention: any shape that broadcasts is right, and any mask beside is_causal is wrong.
_SDPA_MASK = (
    *(*_SIZES, *_QUERIES),
    *_in_float32((*_SIZES, *_QUERIES)),
    Fault("too_many_slices", lambda rows, keys: (N * HEADS + 1, rows, keys)),
    Fault("five_dimensions", lambda rows, keys: (1, 1, 1, rows, keys)),
    *_TYPES,
    Fault("mask_with_hint", hint=True),
    Fault("bias_with_hint", bias="causal_upper_left", hint=True),
    Fault("upper_left_too_few_queries", lambda rows, keys: (rows - 1, keys), bias="causal_upper_left"),
    Fault("upper_left_too_few_keys", lambda rows, keys: (rows, keys - 1), bias="causal_upper_left"),
    Fault("lower_right_too_few_keys", lambda rows, keys: (rows, keys - 1), bias="causal_lower_right"),
    Fault("lower_right_square", lambda rows, keys: (keys, keys), bias="causal_lower_right"),
)


def faults(callee: Callee, argument: str) -> tuple[Fault, ...]:
    """The faults of a mask argument of the callee."""
    if callee.module == SDPA:
        return _SDPA_MASK
    if is_padding(argument):
        return _PADDING_MASK if callee.is_batched else _UNBATCHED_PADDING_MASK
    rows, keys = dict(callee.masks)[argument]
    is_right = {"transposed": rows == keys, "slice_per_sample": not callee.is_batched}  # N == HEADS
    return tuple(fault for fault in _ATTENTION_MASK if not is_right.get(fault.kind, False))


# ---- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class WrongCall:
    """A row of the table: a call with a fault of one mask."""

    callee: Callee
    argument: str  # the name of the wrong mask
    fault: Fault
    mode: str  # one of callee.modes

    def __repr__(self):
        return f"<{self.id}>"

    @property
    def way(self) -> str:
        """The module, the variant and the wrong argument, as text."""
        return "-".join(part for part in (self.module, self.callee.variant, self.argument) if part)

    @property
    def id(self) -> str:
        """The name of the row, unique in the table."""
        return "-".join(part for part in (self.way, self.fault.name, self.mode) if part)

    @property
    def module(self) -> str:
        """The name of the module or function."""
        return self.callee.module

    @property
    def right_shape(self) -> tuple[int, ...]:
        """The right shape of the mask."""
        return self.masks[self.argument]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the wrong mask; None if no mask is given."""
        return self.fault.shape(*self.right_shape)

    def without_fault(self) -> "WrongCall":
        """The call without its fault: all sequences and masks are right."""
        fault = self.fault
        return replace(self, fault=replace(RIGHT, inputs=fault.inputs, samples=fault.samples, beside=fault.beside))

    def length(self, name: str) -> int:
        """The length of the sequences in an input."""
        return self.fault.length or _LENGTHS[name]

    @property
    def is_sequence_first(self) -> bool:
        """True if the sequence is the first dimension of the inputs."""
        return not (self.callee.made and self.callee.variant != "sequence_first") and self.module != SDPA

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an input."""
        length, is_key = self.length(name), name in ("key", "value")
        if self.module == SDPA:
            heads = 1 if self.callee.variant == "grouped" and is_key else HEADS
            return (*((N * HEADS,) if self.callee.variant == "3d" else (N, heads)), length, E // HEADS)
        features = self.callee.features if is_key else E
        if not self.callee.is_batched:
            return length, features
        samples = self.fault.samples
        return (length, samples, features) if self.is_sequence_first else (samples, length, features)

    def making_of(self, name: str, shape: tuple[int, ...], device: str) -> list[str]:
        """Statements that make an input."""
        return [f"{name} = {random(shape, self.fault.inputs, device)}"]

    @property
    def masks(self) -> dict[str, tuple[int, ...]]:
        """{argument: right shape} of all masks that the callee takes, for the sequence lengths of this row."""
        length = self.fault.length
        lengths = {L: length, S: length} if length else {}
        return {name: tuple(lengths.get(size, size) for size in shape) for name, shape in self.callee.masks}

    @property
    def hides_numbers(self) -> bool:
        """True if a float mask holds other numbers than 0 and -inf; False in inference.

        Native paths hide every key with a nonzero number (native-layer-float-mask in the ledger of deviations).
        """
        return self.mode != "inference"

    @property
    def conforming(self) -> tuple[str, ...]:
        """The kinds of outcome that conform. The modules do not document the precision of a float mask."""
        is_open = self.fault.precision and self.module != SDPA
        return (RAISES, ACCEPTS) if is_open else (RAISES,)

    @property
    def expected(self) -> str:
        """The specified outcome, in words."""
        return "an exception whose message names the mask (clause 9)"

    @property
    def hint(self) -> str:
        """The name of the argument that declares the mask causal."""
        return self.argument.replace("mask", "is_causal") if len(self.callee.masks) > 2 else "is_causal"

    @property
    def other(self) -> str:
        """The other mask of the same attention: the padding mask beside an attention mask, or the reverse."""
        names = list(dict(self.callee.masks))
        if len(names) == 2:
            return names[names[0] == self.argument]
        if is_padding(self.argument):
            return self.argument.replace("key_padding_", "")
        return self.argument.replace("mask", "key_padding_mask")


CALLS = tuple(
    WrongCall(callee, argument, fault, mode)
    for callee in CALLEES
    for argument, _ in callee.masks
    for fault in faults(callee, argument)
    for mode in callee.modes
)


def not_applicable(call: WrongCall, release: Release) -> str | None:
    """The reason why the call cannot be made on the release; None if it can."""
    if release.adopted and not (call.module == release.adopted.replaces and release.adopted.takes >= _asks(call)):
        return "it cannot be asked of the subject"
    if not call.callee.takes(call.argument):
        return f"this release has no {call.module}"
    if not {call.fault.inputs, call.fault.dtype} & {"float32", "float64"} <= set(release.dtypes):
        return f"there is no {call.fault.inputs} on this device"
    if call.callee.variant == "grouped" and not release.has_enable_gqa:
        return "this release has no enable_gqa"
    if call.fault.hint and not call.callee.takes(call.hint):
        return f"this release has no {call.hint}"
    if call.fault.bias and not release.has_causal_bias:
        return "this release has no torch.nn.attention"
    if call.fault.dtype == "uint8" and not since(release, "2.0"):
        return "this release documents byte masks"
    return None


def _asks(call):
    """The names of the arguments that the row gives to the module and to its call."""
    given = [call.argument, *[call.hint] * call.fault.hint, *[call.other] * call.fault.beside]
    return {*re.findall(r"(\w+)=", f"{call.callee.made} {call.callee.options}"), *given}
