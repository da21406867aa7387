"""Calls with one wrong mask, as a table, and what torch does with them (clause 9).

A call is rendered as Python text, and that text is what runs: what a report shows is what was done. Each mask hides
something, and each input is drawn from a seed, so that a result tells which mask was applied (results.py).
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

import torch
from torch import nn
from torch.nn import functional

from ..cases.case import is_padding
from ..execution.release import takes
from ..execution.setting import CPU
from ..releases import since

RAISES, UNHELPFUL, ACCEPTS = "raises", "raises unhelpfully", "accepts"


UNBATCHED = "unbatched"  # so begins a variant whose inputs are no batch


# N samples; queries and targets of length L, keys and sources of length S: a transposed mask is a wrong one.
N, HEADS, L, S, E = 2, 2, 4, 6, 4


_LENGTHS = {"query": L, "tgt": L, "key": S, "value": S, "src": S, "memory": S}


_SDPA = "scaled_dot_product_attention"


# ---- what is called ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Callee:
    """A module or function.

    masks: ((argument, right shape), ...). inputs: in order. made: how a module is made; empty for a function.
    options: further arguments. variant: tells apart two ways to call the same thing. features: of the key.
    """

    module: str
    masks: tuple[tuple[str, tuple[int, ...]], ...]
    inputs: tuple[str, ...]
    made: str = ""
    options: str = ""
    variant: str = ""
    features: int = E

    @property
    def is_batched(self):
        """True if inputs have samples; without them a padding mask has one dimension."""
        return not self.variant.startswith(UNBATCHED)

    @property
    def modes(self):
        """In inference the native paths open; a function has but one mode."""
        return ("training", "inference") if self.made else ("",)

    def takes(self, argument):
        """True if the installed release has this module or function, and it this argument."""
        function = getattr(nn, self.module).forward if self.made else getattr(functional, self.module, None)
        if function is None:
            return False
        try:
            return takes(function, argument)
        except ValueError:  # a built-in function, which has had all its masks and hints from the start
            return True


_LAYER = f"({E}, {HEADS}, {E}, dropout=0.0, batch_first=True)"


_ENCODER_LAYER = f"torch.nn.TransformerEncoderLayer{_LAYER}"


_DECODER_LAYER = f"torch.nn.TransformerDecoderLayer{_LAYER}"


_ATTENTION = f"torch.nn.MultiheadAttention({E}, {HEADS}, batch_first=True)"


_PROJECTED = f"torch.nn.MultiheadAttention({E}, {HEADS}, kdim={E + 1}, vdim={E + 1}, batch_first=True)"


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
    """(variant, how it is made) of a transformer: of a layer with its norms last, and first; given no batch."""
    first = ("norm_first", made.replace("batch_first", "norm_first=True, batch_first"))
    return (("", made), *[first] * (made in (_ENCODER_LAYER, _DECODER_LAYER)), (UNBATCHED, made))


def _masks(variant, masks):
    """Those of the variant, from those for a batch."""
    if not variant.startswith(UNBATCHED):
        return masks
    return tuple((name, shape[1:] if is_padding(name) else shape) for name, shape in masks)


_ENCODER_MASKS = (("src_mask", (S, S)), _ENCODER_PADDING)


# (module, masks, inputs, how it is made)
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
    Callee(_SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, variant="3d"),
    Callee(_SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, variant="4d"),
    Callee(_SDPA, _CROSS_MASKS[:1], _CROSS_INPUTS, options="enable_gqa=True", variant="grouped"),
)


# ---- what is wrong with it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is wrong with a mask whose right shape is (rows, keys), or with what is given together with it.

    shape: (rows, keys) -> shape, of a padding mask without samples (keys) -> shape, or None where no mask is given.
    inputs: the dtype of the inputs. elsewhere: the mask is on another device than these. hint: is_causal=True is given
    too. beside: the right other mask of the same attention is given too. bias: the function of
    torch.nn.attention.bias that makes it, for which it has no dtype. samples: of the inputs. length: of all sequences,
    where they are longer than in other rows.
    """

    name: str
    shape: Callable = lambda *right: right
    dtype: str = "bool"
    inputs: str = "float32"
    elsewhere: bool = False
    hint: bool = False
    beside: bool = False
    bias: str = ""
    samples: int = N
    length: int | None = None

    @property
    def kind(self):
        """The name, whether another mask is given beside it or not."""
        return self.name.partition("_beside_")[0]

    @property
    def precision(self):
        """ "higher" or "lower" where a float mask has more or fewer digits than the inputs, else ""."""
        return self.name.partition("_precision")[0] if "_precision" in self.name else ""


_SIZES = (
    Fault("flat", lambda rows, keys: (rows * keys,)),
    Fault("reshaped", lambda rows, keys: (rows // 2, 2 * keys)),
    Fault("transposed", lambda rows, keys: (keys, rows)),
    Fault("too_few_keys", lambda rows, keys: (rows, keys - 1)),
    Fault("too_many_keys", lambda rows, keys: (rows, keys + 1)),
)


_VECTORS = (None, 16, 17, 33)  # lengths: keys that fill no vector of the CPU, one, one and a little, and two


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
    """The faults, each beside the right other mask of the same attention."""
    return tuple(replace(fault, name=f"{fault.name}_beside_{other}", beside=True) for fault in faults)


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
    *_TYPES,
    Fault("hint_without_mask", lambda rows, keys: None, hint=True),
    Fault("hint_without_mask_beside_padding", lambda rows, keys: None, hint=True, beside=True),
    Fault("hint_with_too_few_keys", lambda rows, keys: (rows, keys - 1), hint=True),
    Fault("causal_bias", bias="causal_lower_right", samples=1),  # which is for scaled_dot_product_attention alone
)


_PADDING_SIZES = (
    *(*_SIZES, *_ONE_KEY),
    Fault("one_sample", lambda rows, keys: (1, keys)),
    Fault("too_many_samples", lambda rows, keys: (rows + 1, keys)),
    Fault("three_dimensions", lambda rows, keys: (rows, 1, keys)),
    Fault("four_dimensions", lambda rows, keys: (rows, 1, 1, keys)),
)


_PADDING_MASK = (*_PADDING_SIZES, *_beside("attn_mask", _PADDING_SIZES), *_TYPES)


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


# Here every shape that broadcasts is right, and any mask beside is_causal is wrong.
_SDPA_MASK = (
    *(*_SIZES, *_QUERIES),
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


def faults(callee, argument):
    """Those that a mask of this name can have."""
    if callee.module == _SDPA:
        return _SDPA_MASK
    if is_padding(argument):
        return _PADDING_MASK if callee.is_batched else _UNBATCHED_PADDING_MASK
    rows, keys = dict(callee.masks)[argument]
    is_right = {"transposed": rows == keys, "slice_per_sample": not callee.is_batched}  # as many samples as heads
    return tuple(fault for fault in _ATTENTION_MASK if not is_right.get(fault.kind, False))


# ---- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class WrongCall:
    """A row of the table: a mask with a fault, given to something in a mode."""

    callee: Callee
    argument: str
    fault: Fault
    mode: str

    def __repr__(self):
        return f"<{self.id}>"

    @property
    def way(self):
        """What is called, and which of its masks is wrong."""
        return "-".join(part for part in (self.module, self.callee.variant, self.argument) if part)

    @property
    def id(self):
        return "-".join(part for part in (self.way, self.fault.name, self.mode) if part)

    @property
    def module(self):
        return self.callee.module

    @property
    def right_shape(self):
        return self.masks[self.argument]

    @property
    def shape(self):
        """The shape of the wrong mask, None if none is given."""
        return self.fault.shape(*self.right_shape)

    def length(self, name):
        """The length of the sequences in an input."""
        return self.fault.length or _LENGTHS[name]

    @property
    def is_sequence_first(self):
        return not (self.callee.made and self.callee.variant != "sequence_first") and self.module != _SDPA

    def shape_of(self, name):
        """The shape of an input."""
        length, is_key = self.length(name), name in ("key", "value")
        if self.module == _SDPA:
            heads = 1 if self.callee.variant == "grouped" and is_key else HEADS
            return (*((N * HEADS,) if self.callee.variant == "3d" else (N, heads)), length, E // HEADS)
        features = self.callee.features if is_key else E
        if not self.callee.is_batched:
            return length, features
        samples = self.fault.samples
        return (length, samples, features) if self.is_sequence_first else (samples, length, features)

    def making_of(self, name, shape, device):
        """Statements that make an input."""
        return [f"{name} = {_random(shape, self.fault.inputs, device)}"]

    @property
    def masks(self):
        """{argument: right shape} of the masks that can be given; sequences may be longer than usual."""
        length = self.fault.length
        lengths = {L: length, S: length} if length else {}
        return {name: tuple(lengths.get(size, size) for size in shape) for name, shape in self.callee.masks}

    @property
    def hides_numbers(self):
        """True if a float mask holds other numbers than 0 and -inf.

        Native paths read these as hidden, whatever their precision is (native-layer-float-mask in ledger.py).
        """
        return self.mode != "inference"

    @property
    def conforming(self):
        """The outcomes that conform. Which precision a float mask must have, the modules do not document."""
        is_open = self.fault.precision and self.module != _SDPA
        return (RAISES, ACCEPTS) if is_open else (RAISES,)

    @property
    def expected(self):
        """In words, what should happen."""
        return "an exception whose message names the mask (clause 9)"

    @property
    def hint(self):
        """The argument that says that the mask is causal."""
        return self.argument.replace("mask", "is_causal") if len(self.callee.masks) > 2 else "is_causal"

    @property
    def other(self):
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


def not_applicable(call, release):
    """Why the release has no such wrong call, or None."""
    if release.adopted and not (call.module == "MultiheadAttention" and release.adopted.takes >= _asks(call)):
        return "it cannot be asked of the subject"
    if not call.callee.takes(call.argument):
        return f"this release has no {call.module}"
    if not {call.fault.inputs, call.fault.dtype} & {"float32", "float64"} <= set(release.dtypes):
        return f"there is no {call.fault.inputs} on this device"
    if call.callee.variant == "grouped" and not release.has_enable_gqa:
        return "this release has no enable_gqa"
    if call.fault.hint and not call.callee.takes(call.hint):
        return f"this release has no {call.hint}"
    if call.fault.bias and not since(release, "2.3"):
        return "this release has no torch.nn.attention"
    if call.fault.dtype == "uint8" and not since(release, "2.0"):
        return "this release documents byte masks"
    return None


def _asks(call):
    """The arguments that nn.MultiheadAttention and its call are given."""
    given = [call.argument, *[call.hint] * call.fault.hint, *[call.other] * call.fault.beside]
    return {*re.findall(r"(\w+)=", call.callee.made), *given}


# ---- the call as one could type it ---------------------------------------------------------------------------------


def source(call, setting=CPU):
    """The whole call."""
    imports = [f"import {name}" for name in setting.imports]
    return "\n".join([*imports, *_making(call, setting), *_calling(call, setting.device)])


def _making(call, setting):
    if not call.callee.made:
        return []
    made = call.callee.made.replace("torch.nn.MultiheadAttention", setting.attention)
    where = {"dtype": f"torch.{call.fault.inputs}", "device": repr(setting.device)}
    moved = ", ".join(f"{name}={value}" for name, value in where.items() if value not in _DEFAULTS)
    return [_seeding(0, "cpu"), f"module = {made}" + (f".to({moved})" if moved else "")]


_DEFAULTS = ("torch.float32", "'cpu'")


def _seeding(seed, device):
    """A statement: torch.manual_seed would keep a record of each call for the GPUs that are not there."""
    return f"torch.{'default_generator.' if device == 'cpu' else ''}manual_seed({seed})"


def _calling(call, device):
    shapes = {name: call.shape_of(name) for name in call.callee.inputs}
    shapes |= PARAMETERS if call.module == "multi_head_attention_forward" else {}
    lines = [line for name, shape in shapes.items() for line in call.making_of(name, shape, device)]
    given = {}
    if call.shape is not None:
        place = ("meta" if device == "cpu" else "cpu") if call.fault.elsewhere else device
        lines += _mask(call, place)
        given[call.argument] = "mask"
    if call.fault.beside:
        lines.append(f"other_mask = {_hiding(call, call.masks[call.other], device)}")
        given[call.other] = "other_mask"
    if call.fault.hint:
        given[call.hint] = "True"
    return [_seeding(1, device), *lines, *_invocation(call, given)]


def _mask(call, place):
    """Statements that make the wrong mask."""
    if call.fault.bias:
        sizes = ", ".join(map(str, call.shape))
        return ["import torch.nn.attention.bias", f"mask = torch.nn.attention.bias.{call.fault.bias}({sizes})"]
    hiding, dtype = _hiding(call, call.shape, place), call.fault.dtype
    if dtype.startswith("float"):
        hiding = hiding.replace("!=", "==")
        numbers = _random(call.shape, dtype, place) if call.hides_numbers else _zeros(call.shape, dtype, place)
        return [f"mask = {numbers}.masked_fill({hiding}, -torch.inf)"]
    return [f"mask = {hiding}" if dtype == "bool" else f"mask = ({hiding}).to(torch.{dtype})"]


def _hiding(call, shape, device):
    """An expression: hides each fifth element. No row of two keys or more is hidden as a whole, nor by two masks."""
    hides = "!=" if call.module == _SDPA else "=="  # scaled_dot_product_attention keeps what is True
    return f"torch.arange({_joined(prod(shape), device=repr(device))}).reshape({shape}) % 5 {hides} 2"


def _random(shape, dtype, device):
    return f"torch.randn({_joined(shape, dtype=f'torch.{dtype}', device=repr(device))})"


def _zeros(shape, dtype, device):
    return f"torch.zeros({_joined(shape, dtype=f'torch.{dtype}', device=repr(device))})"


def _joined(first, **options):
    """Arguments as text, without the defaults."""
    others = [f"{option}={value}" for option, value in options.items() if value not in _DEFAULTS]
    return ", ".join([str(first), *others])


def _invocation(call, given):
    options = [call.callee.options] if call.callee.options else []
    arguments = ", ".join([*call.callee.inputs, *options, *(f"{name}={value}" for name, value in given.items())])
    if not call.callee.made:
        return [f"result = torch.nn.functional.{call.module}({arguments})"]
    if call.mode == "training":
        return ["module.train()", f"result = module({arguments})"]
    return ["module.eval()", "with torch.no_grad():", f"    result = module({arguments})"]


# ---- what happens --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """kind: RAISES, UNHELPFUL or ACCEPTS. error: the type and message of what was raised.

    names: what the call's names mean after it: its inputs, masks and `module`, and its `result`.
    """

    kind: str
    error: str = ""
    names: dict = field(default_factory=dict, compare=False, repr=False)


def observe(call, setting=CPU):
    """What the installed torch does, or what is called in the place of its nn.MultiheadAttention."""
    imports = [f"import {name}" for name in setting.imports]
    names = {"torch": torch, "module": _made("\n".join([*imports, *_making(call, setting)]))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec("\n".join(_calling(call, setting.device)), names)
        except Exception as raised:  # whatever torch raises is an outcome
            error = f"{type(raised).__name__}: {raised}"
            return Outcome(RAISES if names_mask(str(raised), call.argument) else UNHELPFUL, error)
    return Outcome(ACCEPTS, names=names)


@cache
def _made(text):
    """The module that the text makes; one serves many calls, since to make it takes longer than to call it."""
    names = {"torch": torch}
    exec(text, names)
    return names.get("module")


def names_mask(message, argument):
    """True if a message says that this mask is the matter."""
    return re.search(name_of_mask(argument), message, re.IGNORECASE) is not None


def name_of_mask(argument):
    """A pattern of what a message may call this mask: by its name or as a mask, not by the name of an operator."""
    names = ("key_padd(ing|ed)_mask",) if is_padding(argument) else ("attn_mask", "CausalBias")
    return rf"(?<![\w:])({'|'.join(dict.fromkeys(['masks?', *names, argument]))})(?!\w)"
