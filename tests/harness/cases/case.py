"""A case: everything that determines one call, as frozen plain data. Its repr can be pasted back.

A case holds sizes, options, mask recipes and a seed. contents/arrays.py turns them into numbers.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from .masks import Mask
from .spelling import Spelled

# Which tensors require a gradient, and under which context of autograd the call runs. See `Case.autograd`.
AUTOGRAD = ("grad", "no_grad", "inference_mode", "frozen", "inputs", "mask", "one_parameter", "last_layer")
WRITTEN = "written"  # with which the ids of modes begin whose attention is written by hand (modes/written.py)
UNRECORDED = ("no_grad", "inference_mode", "frozen", "mask")  # autograd records neither parameters nor inputs


@dataclass(frozen=True, repr=False)
class Case(Spelled):
    """The fields that all calls share: dtype, seed, memory layout, mode and setting of autograd.

    The values of `autograd` say which tensors require a gradient:

        grad            parameters, inputs and float masks
        inputs          inputs only
        parameters      parameters only
        one_input       one input of scaled_dot_product_attention, chosen by the seed
        mask            float masks only
        last_layer      the parameters of the last layer of each stack, and of norms after it
        one_parameter   one parameter of those, chosen by the seed
        frozen          none
        no_grad, inference_mode   parameters; the call runs under torch.no_grad() or torch.inference_mode()
    """

    dtype: str = "float64"  # of inputs, parameters and, unless Mask.dtype differs, float masks
    seed: int = 0  # of all contents
    autograd: str = "no_grad"  # which tensors require a gradient; one of AUTOGRAD, or "one_input"
    layout: str = "contiguous"  # memory layout of the inputs (masks.LAYOUTS)
    garbage: bool = False  # positions hidden from every query hold large numbers
    mode: str = "eager"  # id of a mode (modes/modes.py): how the module is created and called
    nan_query: bool = False  # one row of `query` is NaN; queries and keys are separate tensors
    nonfinite: str = ""  # "nan" or "inf" (of either sign): held by positions hidden from every query

    if TYPE_CHECKING:  # the other fields depend on the kind of case

        def __getattr__(self, name: str) -> Any: ...

    else:  # class attributes: the values that calls have which lack the field
        attends = True  # False if the call only makes a mask and computes no attention
        has_fast_path = False  # True if the call can be made with `fast_path` off
        functional = static = add_bias_kv = add_zero_attn = separate_projections = need_weights = is_causal = False
        norm = norm_first = has_encoder = has_decoder = False
        batched = batch_first = bias = enable_nested_tensor = mask_check = fast_path = True
        only = scale = kdim = key_padding_mask = None
        attention = activation = broadcast = ""
        num_layers, dropout = 1, 0.0

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the attention blocks that the call computes, by the source of their keys.

        "sdpa", or "self" of a multi-head attention, or "src" (the encoder's), "tgt" (the decoder's self-attention) and
        "memory" (its cross-attention). If the parameters of the last layer of a stack differ from the others' in what
        requires a gradient, its blocks are "src.last" and so on, and those of the other layers "src.early".
        """
        return ()

    @property
    def samples(self) -> int:
        """The number of samples in the call."""
        return self.N if self.only is None else 1

    @property
    def appended_keys(self) -> int:
        """The number of keys that add_bias_kv and add_zero_attn append."""
        return self.add_bias_kv + self.add_zero_attn

    def number_of_queries(self, block: str) -> int:
        """The number of queries in a block."""
        return self.L

    def number_of_keys(self, block: str) -> int:
        """The number of keys in a block, without appended ones."""
        return self.S

    def mask_names(self, block: str) -> tuple[str, ...]:
        """The names of the masks of a block: the attention mask and, in a module, the padding mask."""
        return "attn_mask", "key_padding_mask"

    @property
    def holds_nan(self) -> bool:
        """True if the specification allows NaN in a result."""
        return self.nan_query or self.nonfinite != "" or self.mode.startswith(WRITTEN)


@dataclass(frozen=True, repr=False)
class ScaledDotProduct(Case):
    """A call of F.scaled_dot_product_attention (SDPA). A bool mask has SDPA's polarity: True keeps."""

    batch: tuple[int, ...] = (1, 1)  # dimensions of the query before (L, D)
    L: int = 1  # number of queries
    S: int = 1  # number of keys
    D: int = 1  # features of queries and keys
    Dv: int = 1  # features of values
    attn_mask: Mask | None = None
    mask_batch: tuple[int, ...] = ()  # dimensions of the mask before (L, S)
    broadcast: str = ""  # "L" or "S": this dimension of the mask has size 1; "1-D": shape (S,); "0-D": a scalar
    is_causal: bool = False
    scale: float | None = None
    kv_heads: int | None = None  # heads of key and value; if given, the call passes enable_gqa=True
    dropout: float = 0.0  # dropout_p

    module = "scaled_dot_product_attention"
    blocks = ("sdpa",)

    def mask_names(self, block: str) -> tuple[str, ...]:
        """The only mask."""
        return ("attn_mask",)


@dataclass(frozen=True, repr=False)
class MultiHead(Case):
    """A call of nn.MultiheadAttention or, if `functional`, of F.multi_head_attention_forward.

    The values of `attention` say how query, key and value relate: "self" (one tensor for all three), "copies" (three
    tensors with equal contents), "cross" (key is value), "distinct" (three tensors).
    """

    N: int = 1  # samples
    L: int = 1  # queries
    S: int = 1  # keys
    num_heads: int = 1
    head_dim: int = 1
    attention: str = "distinct"  # "self", "copies", "cross" or "distinct"
    attn_mask: Mask | None = None
    key_padding_mask: Mask | None = None
    is_causal: bool = False
    need_weights: bool = True
    average_attn_weights: bool = True
    training: bool = False
    dropout: float = 0.0
    batched: bool = True  # False: sequences and padding masks have no batch dimension; N is 1
    batch_first: bool = True
    kdim: int | None = None
    vdim: int | None = None
    bias: bool = True
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    fast_path: bool = True  # False: disabled by torch.backends.mha.set_fastpath_enabled
    functional: bool = False
    static: bool = False  # F.multi_head_attention_forward gets static_k and static_v
    only: int | None = None  # run only this one of the N samples, as a batch of one

    has_fast_path = True
    blocks = ("self",)

    @property
    def module(self) -> str:
        """The name of the class or function in torch that is called."""
        return "multi_head_attention_forward" if self.functional else "MultiheadAttention"

    @property
    def E(self) -> int:
        """The embedding size: embed_dim in torch."""
        return self.num_heads * self.head_dim

    @property
    def key_input(self) -> str:
        """The name of the input from which keys are projected: "query" in self-attention, else "key"."""
        return "query" if self.attention == "self" else "key"

    @property
    def separate_projections(self) -> bool:
        """True if query, key and value have separate projection weights, as kdim or vdim differs from embed_dim."""
        return (self.kdim or self.E) != self.E or (self.vdim or self.E) != self.E


@dataclass(frozen=True, repr=False)
class Transformer(Case):
    """A call of nn.Transformer, of one of its two stacks, or of one of their two layers."""

    module: str = "TransformerEncoderLayer"  # the class in torch.nn
    N: int = 1  # samples
    S: int = 1  # length of src and memory
    T: int = 1  # length of tgt
    num_heads: int = 1
    head_dim: int = 1
    src_mask: Mask | None = None
    tgt_mask: Mask | None = None
    memory_mask: Mask | None = None
    src_key_padding_mask: Mask | None = None
    tgt_key_padding_mask: Mask | None = None
    memory_key_padding_mask: Mask | None = None
    src_is_causal: bool | None = None  # this hint and the next two: None if not passed
    tgt_is_causal: bool | None = None
    memory_is_causal: bool | None = None
    training: bool = False
    dropout: float = 0.0
    batched: bool = True  # False: sequences and padding masks have no batch dimension; N is 1
    batch_first: bool = True
    num_layers: int = 1  # of each stack
    dim_feedforward: int = 1
    activation: str = "relu"  # "relu", "gelu", or a callable: "gelu_tanh", "gelu_tanh_function", "silu"
    layer_norm_eps: float = 1e-5
    norm_first: bool = False
    bias: bool = True
    norm: bool = False  # the stack ends with a layer norm
    enable_nested_tensor: bool = True
    mask_check: bool = True
    fast_path: bool = True  # False: disabled by torch.backends.mha.set_fastpath_enabled
    only: int | None = None  # run only this one of the N samples, as a batch of one

    has_fast_path = True

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of each stack."""
        names = (("src",) if self.has_encoder else ()) + (("tgt", "memory") if self.has_decoder else ())
        is_split = self.autograd in ("one_parameter", "last_layer") and self.num_layers > 1
        parts = (".early", ".last") if is_split else ("",)
        return tuple(f"{name}{part}" for name in names for part in parts)

    def number_of_queries(self, block: str) -> int:
        """The length of the sequence that attends."""
        return self.S if source_of(block) == "src" else self.T

    def number_of_keys(self, block: str) -> int:
        """The length of the sequence that is attended to."""
        return self.T if source_of(block) == "tgt" else self.S

    def mask_names(self, block: str) -> tuple[str, ...]:
        """The masks that begin with the source of the block."""
        return f"{source_of(block)}_mask", f"{source_of(block)}_key_padding_mask"

    @property
    def E(self) -> int:
        """The embedding size: d_model in torch."""
        return self.num_heads * self.head_dim

    @property
    def has_encoder(self) -> bool:
        """True if the module has encoder layers."""
        return self.module in ("TransformerEncoderLayer", "TransformerEncoder", "Transformer")

    @property
    def has_decoder(self) -> bool:
        """True if the module has decoder layers."""
        return self.module in ("TransformerDecoderLayer", "TransformerDecoder", "Transformer")


@dataclass(frozen=True, repr=False)
class SquareSubsequentMask(Case):
    """A call of nn.Transformer.generate_square_subsequent_mask(sz): a causal mask (sz, sz) of 0 and -inf.

    `dtype` is the default dtype of torch during the call.
    """

    sz: int = 1
    given_dtype: str | None = None  # the argument `dtype`; None if not passed
    given_device: str | None = None  # the argument `device`; None if not passed
    default_device: str | None = None  # the default device; None if not set
    in_context: bool = False  # the default device is set by `with torch.device(...)`, not by set_default_device
    of_instance: bool = False  # called on an instance, not on the class
    after_writing: bool = False  # the mask of an identical earlier call has been overwritten

    attends = False
    module = "generate_square_subsequent_mask"


Kind = TypeVar("Kind", bound=Case)


def source_of(block: str) -> str:
    """The source of the keys of a block: its name without the part of the stack."""
    return block.partition(".")[0]


def masks_of(case: Case) -> dict[str, Mask]:
    """{argument name: Mask} of the masks that are not None."""
    # mypy takes the class, an argument of a cached function, for an instance of it, which need not be hashable
    return {name: mask for name in _mask_names(type(case)) if (mask := getattr(case, name)) is not None}  # type: ignore[arg-type]


@cache
def _mask_names(kind):
    return [field.name for field in fields(kind) if field.name.endswith("mask")]


def is_padding(name: str) -> bool:
    """True if the argument of this name is a key padding mask, False if an attention mask."""
    return name.endswith("key_padding_mask")


# For each attention of a module, the names of its attention mask, its padding mask and the source of its keys.
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


def attentions(case: Case) -> tuple[tuple[str, str, str], ...]:
    """For each attention of the module: the names of its attention mask, its padding mask and the source of its keys.

    Undefined for scaled_dot_product_attention.
    """
    if isinstance(case, MultiHead):
        return (("attn_mask", "key_padding_mask", case.key_input),)
    return _ATTENTIONS[case.module]


def merged_dtype(case: Case, *names: str) -> str | None:
    """The dtype in torch of the sum of the masks of these names; None without masks.

    A bool mask is converted to the dtype of the inputs.
    """
    masks = [getattr(case, name) for name in names]
    dtypes = {mask.dtype_beside(case.dtype) if mask.is_float else case.dtype for mask in masks if mask}
    if len(dtypes) < 2:
        return dtypes.pop() if dtypes else None
    return "float64" if "float64" in dtypes else "float32"


def mixes_types(case: Case) -> bool:
    """True if some attention gets both masks, in different dtypes, such as a bool and a float mask."""
    if isinstance(case, ScaledDotProduct):
        return False
    return any(mixes_types_of(case, attn_mask, padding) for attn_mask, padding, _ in attentions(case))


def mixes_types_of(case: Case, *names: str) -> bool:
    """True if all masks of these names are given, in at least two dtypes."""
    masks = [getattr(case, name) for name in names]
    return all(masks) and len({mask.dtype_beside(case.dtype) for mask in masks}) > 1


def drops(case: Case) -> bool:
    """True if dropout is active in the call."""
    return case.dropout > 0 and getattr(case, "training", True)
