"""A case: everything that decides one call, as plain frozen data whose repr can be pasted back.

A case holds recipes: sizes, options, masks and a seed. arrays.py turns them into numbers.
"""

from dataclasses import dataclass, fields
from functools import cache

from .masks import Mask
from .spelling import Spelled

# Who requires a gradient, and in which context the call is made.
AUTOGRAD = ("grad", "no_grad", "inference_mode", "frozen", "inputs", "mask", "one_parameter", "last_layer")
UNRECORDED = ("no_grad", "inference_mode", "frozen", "mask")  # autograd sees no parameter and no input


@dataclass(frozen=True, repr=False)
class Case(Spelled):
    """What all calls have in common: sizes, dtype, the content's seed and memory layout, and how autograd is set.

    autograd: "grad" (parameters, inputs and float masks require it), "inputs" or "mask" (only these do), "one_input"
    (one of an attention alone, which the seed chooses),
    "last_layer" (the parameters of each stack's last layer do, the others are frozen), "one_parameter" (only one of
    these does, which the seed chooses), "frozen" (nothing does),
    "no_grad" and "inference_mode" (parameters do, the context forbids it).
    garbage: positions that no query may see hold large numbers. mode: how it is come by and called (modes.py).
    nan_query: one query is NaN, in a call that has queries of its own. nonfinite: positions that no query may see hold
    "nan", or "inf" of either sign.
    """

    dtype: str = "float64"
    seed: int = 0
    autograd: str = "no_grad"
    layout: str = "contiguous"
    garbage: bool = False
    mode: str = "eager"
    nan_query: bool = False
    nonfinite: str = ""

    attends = True  # False of a call that makes a mask and computes no attention

    @property
    def holds_nan(self):
        """True if a result may be NaN by the specification."""
        return self.nan_query or self.nonfinite != ""


@dataclass(frozen=True, repr=False)
class ScaledDotProduct(Case):
    """F.scaled_dot_product_attention. `batch` are the dimensions before (L, D); `mask_batch` those of the mask.

    The mask's bool form is materialised for SDPA, where True keeps. `broadcast` drops a dimension to size 1: "L", "S"
    or ""; as "1-D" the mask is (S,), as "0-D" a single number.
    """

    batch: tuple[int, ...] = (1, 1)
    L: int = 1
    S: int = 1
    D: int = 1
    Dv: int = 1
    attn_mask: Mask | None = None
    mask_batch: tuple[int, ...] = ()
    broadcast: str = ""
    is_causal: bool = False
    scale: float | None = None
    kv_heads: int | None = None  # given: enable_gqa
    dropout: float = 0.0

    module = "scaled_dot_product_attention"


@dataclass(frozen=True, repr=False)
class MultiHead(Case):
    """nn.MultiheadAttention, or F.multi_head_attention_forward where `functional`.

    attention: "self" (one tensor thrice), "copies" (equal values in three tensors), "cross" (key is value) or
    "distinct". static: F.multi_head_attention_forward is given static_k and static_v.
    """

    N: int = 1
    L: int = 1
    S: int = 1
    num_heads: int = 1
    head_dim: int = 1
    attention: str = "distinct"
    attn_mask: Mask | None = None
    key_padding_mask: Mask | None = None
    is_causal: bool = False
    need_weights: bool = True
    average_attn_weights: bool = True
    training: bool = False
    dropout: float = 0.0
    batched: bool = True
    batch_first: bool = True
    kdim: int | None = None
    vdim: int | None = None
    bias: bool = True
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    fast_path: bool = True
    functional: bool = False
    static: bool = False
    only: int | None = None

    @property
    def module(self):
        return "multi_head_attention_forward" if self.functional else "MultiheadAttention"

    @property
    def E(self):
        return self.num_heads * self.head_dim

    @property
    def key_input(self):
        """The input that the keys are projected from."""
        return "query" if self.attention == "self" else "key"

    @property
    def separate_projections(self):
        return (self.kdim or self.E) != self.E or (self.vdim or self.E) != self.E


@dataclass(frozen=True, repr=False)
class Transformer(Case):
    """One of nn.Transformer, its two stacks and their two layers, as `module` says.

    S is the length of src or memory, T that of tgt. A hint is None where it is not passed. only: of the N samples,
    just this one is run, as a batch of one.
    """

    module: str = "TransformerEncoderLayer"
    N: int = 1
    S: int = 1
    T: int = 1
    num_heads: int = 1
    head_dim: int = 1
    src_mask: Mask | None = None
    tgt_mask: Mask | None = None
    memory_mask: Mask | None = None
    src_key_padding_mask: Mask | None = None
    tgt_key_padding_mask: Mask | None = None
    memory_key_padding_mask: Mask | None = None
    src_is_causal: bool | None = None
    tgt_is_causal: bool | None = None
    memory_is_causal: bool | None = None
    training: bool = False
    dropout: float = 0.0
    batched: bool = True
    batch_first: bool = True
    num_layers: int = 1
    dim_feedforward: int = 1
    activation: str = "relu"
    layer_norm_eps: float = 1e-5
    norm_first: bool = False
    bias: bool = True
    norm: bool = False
    enable_nested_tensor: bool = True
    mask_check: bool = True
    fast_path: bool = True
    only: int | None = None

    @property
    def E(self):
        return self.num_heads * self.head_dim

    @property
    def has_encoder(self):
        return self.module in ("TransformerEncoderLayer", "TransformerEncoder", "Transformer")

    @property
    def has_decoder(self):
        return self.module in ("TransformerDecoderLayer", "TransformerDecoder", "Transformer")


@dataclass(frozen=True, repr=False)
class SquareSubsequentMask(Case):
    """nn.Transformer.generate_square_subsequent_mask(sz), a causal mask (sz, sz) of 0 and -inf.

    dtype: the default dtype. default_device: the default device, None where none is set. in_context: it is set by
    `with torch.device(...)`, not by torch.set_default_device. given_dtype, given_device: the arguments, None where they
    are not given. of_instance: called on a module, not on the class. after_writing: the same call was made before, and
    its mask overwritten.
    """

    sz: int = 1
    given_dtype: str | None = None
    given_device: str | None = None
    default_device: str | None = None
    in_context: bool = False
    of_instance: bool = False
    after_writing: bool = False

    attends = False
    dropout = 0.0
    module = "generate_square_subsequent_mask"


def masks_of(case):
    """{argument name: Mask} of the masks that the case gives."""
    return {name: mask for name in _mask_names(type(case)) if (mask := getattr(case, name)) is not None}


@cache
def _mask_names(kind):
    return [field.name for field in fields(kind) if field.name.endswith("mask")]


def is_padding(name):
    """True if a mask argument says which keys are padding, rather than who may attend to whom."""
    return name.endswith("key_padding_mask")


# Of each attention that a module computes: attention mask, padding mask, and the input that its keys come from.
_SELF = ("src_mask", "src_key_padding_mask", "src")
_TARGET = ("tgt_mask", "tgt_key_padding_mask", "tgt")
_ATTENTIONS = {
    "TransformerEncoderLayer": (_SELF,),
    "TransformerEncoder": (_SELF,),
    "TransformerDecoderLayer": (_TARGET, ("memory_mask", "memory_key_padding_mask", "memory")),
    "TransformerDecoder": (_TARGET, ("memory_mask", "memory_key_padding_mask", "memory")),
    "Transformer": (_SELF, _TARGET, ("memory_mask", "memory_key_padding_mask", "src")),
    SquareSubsequentMask.module: (),
}


def attentions(case):
    """(attention mask, padding mask, input that the keys come from), by name, of each attention in the module."""
    if isinstance(case, MultiHead):
        return (("attn_mask", "key_padding_mask", case.key_input),)
    return _ATTENTIONS[case.module]


def merged_dtype(case, *names):
    """The dtype in torch of the sum of the masks of these names, to which a bool one gives that of the inputs."""
    masks = [getattr(case, name) for name in names]
    dtypes = {mask.dtype_beside(case.dtype) if mask.is_float else case.dtype for mask in masks if mask}
    if len(dtypes) < 2:
        return dtypes.pop() if dtypes else None
    return "float64" if "float64" in dtypes else "float32"


def mixes_types(case):
    """True if an attention is given both masks, and they differ in their dtypes: one bool and one float, say."""
    if isinstance(case, ScaledDotProduct):
        return False
    return any(mixes_types_of(case, attn_mask, padding) for attn_mask, padding, _ in attentions(case))


def mixes_types_of(case, *names):
    """True if there are masks of these names that differ in their dtypes."""
    masks = [getattr(case, name) for name in names]
    return all(masks) and len({mask.dtype_beside(case.dtype) for mask in masks}) > 1


def drops(case):
    """True if the call drops anything."""
    return case.dropout > 0 and getattr(case, "training", True)
