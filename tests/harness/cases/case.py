"""The kinds of case, and questions about a case.

A case holds sizes, options, mask recipes and a seed. contents/arrays.py turns them into numbers.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import TypeVar

from .base import Attention, Case, hint_about, is_padding, source_of
from .masks import Mask

__all__ = [
    "ATTENTIONS",
    "AUTOGRAD",
    "BLOCKS_BY",
    "JOINED",
    "LEARNED",
    "LSE",
    "OF_ONE_LENGTH",
    "UNRECORDED",
    "Case",
    "DotProduct",
    "FlexAttention",
    "Kind",
    "MultiHead",
    "ScaledDotProduct",
    "SquareSubsequentMask",
    "Transformer",
    "drops",
    "hint_about",
    "is_padding",
    "masks_of",
    "merged_dtype",
    "mixes_types",
    "mixes_types_of",
    "source_of",
]

# Which tensors require a gradient, and under which context of autograd the call runs. See `Case.autograd`.
AUTOGRAD = ("grad", "no_grad", "inference_mode", "frozen", "inputs", "mask", "one_parameter", "last_layer")
LEARNED = "parameters_and_masks"  # a value of `autograd` for modules
ATTENTIONS = ("self", "copies", "cross", "query_is_key", "distinct")  # see `MultiHead`
OF_ONE_LENGTH = ("self", "copies", "query_is_key")  # with as many keys as queries
UNRECORDED = ("no_grad", "inference_mode", "frozen", "mask")  # autograd records neither parameters nor inputs

SLICES_OF_SAMPLES = ("slice_of_samples", "slice_without_mask_mod")
SLICES = ("slice_of_queries", *SLICES_OF_SAMPLES)
ADJUSTMENTS = {"adjustment": 1, "far_adjustment": 3}  # {a value of `blocks_by`: blocks that are cut off}
LISTS = ("lists", "narrow_lists")
BLOCKS_BY = ("create_block_mask", *ADJUSTMENTS, *LISTS, *SLICES)  # see FlexAttention
JOINED = ("", "and", "or")
LSE = ("", "return_lse", "return_aux")


@dataclass(frozen=True, repr=False)
class DotProduct(Case):
    """A call of a function that computes one attention without parameters. A bool mask keeps where True."""

    batch: tuple[int, ...] = (1, 1)  # dimensions of the query before (L, D)
    L: int = 1  # number of queries
    S: int = 1  # number of keys
    D: int = 1  # features of queries and keys
    Dv: int = 1  # features of values

    true_hides = False
    length_fields = ("L", "S")

    @property
    def batch_size(self) -> int:
        """The first dimension of the query if it has more than (L, D)."""
        return self.batch[0] if self.batch else 1

    @property
    def heads(self) -> int:
        """The last dimension of the query before (L, D)."""
        return self.batch[-1] if self.batch else 1

    @property
    def head_dim(self) -> int:
        """The features of each query and key."""
        return self.D

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Query, key and value; these two may have fewer heads."""
        kv_batch = self.batch if self.kv_heads is None else (*self.batch[:-1], self.kv_heads)
        return {
            "query": (*self.batch, self.L, self.D),
            "key": (*kv_batch, self.S, self.D),
            "value": (*kv_batch, self.S, self.Dv),
        }


@dataclass(frozen=True, repr=False)
class ScaledDotProduct(DotProduct):
    """A call of F.scaled_dot_product_attention (SDPA)."""

    attn_mask: Mask | None = None
    mask_batch: tuple[int, ...] = ()  # dimensions of the mask before (L, S)
    broadcast: str = ""  # "L" or "S": this dimension of the mask has size 1; "1-D": shape (S,); "0-D": a scalar
    is_causal: bool = False
    scale: float | None = None
    kv_heads: int | None = None  # heads of key and value; if given, the call passes enable_gqa=True
    dropout: float = 0.0  # dropout_p

    module = "scaled_dot_product_attention"
    blocks = ("sdpa",)

    def mask_shape(self, name: str) -> tuple[int, ...]:
        """The shape of the mask, which broadcasts to (*batch, L, S)."""
        L = self.L if self.broadcast in ("", "S") else 1
        S = self.S if self.broadcast in ("", "L", "1-D") else 1
        return (*self.mask_batch, L, S)

    def mask_names(self, block: str) -> tuple[str, ...]:
        """The only mask."""
        return ("attn_mask",)


@dataclass(frozen=True, repr=False)
class FlexAttention(DotProduct):
    """A call of torch.nn.attention.flex_attention.flex_attention, whose functions read masks at their positions.

    mask_mod keeps where kept_mask is True; one that is causal compares positions instead. score_mod bends the score by
    `softcap`, then adds added_mask, or hides where a bool added_mask is False. The values of `blocks_by` say how the
    BlockMask is made:

        create_block_mask   of mask_mod
        adjustment          of mask_mod for one more block of queries and of keys, and adjusted
        far_adjustment      as adjustment, for three more blocks
        lists               of random lists of partial and full blocks, with mask_mod unless its pattern is "none"
        narrow_lists        as lists, whose tensors are as wide as the longest list, not as the keys
        slice_of_queries    of mask_mod for one more block of queries; the first block is cut off by a slice, which gets
                            a mask_mod that is shifted by as many positions
        slice_of_samples    of mask_mod for one more sample; the first sample is cut off by a slice, which gets a
                            mask_mod that is shifted by a sample
        slice_without_mask_mod
                            as slice_of_samples, but the slice gets no mask_mod
    """

    kept_mask: Mask | None = None  # if None, the call has no BlockMask
    added_mask: Mask | None = None
    mask_batch: tuple[int, ...] = (1, 1)  # dimensions of the masks before (L, S); 1 or those of the batch
    block_size: tuple[int, ...] = (128, 128)  # positions in a block of queries, and in a block of keys
    blocks_by: str = "create_block_mask"
    by_number: bool = False  # what all samples or heads share of a mask is read at the index 0, and not taken first
    joined: str = ""  # "and" or "or": mask_mod is made of three functions by and_masks or or_masks; one of JOINED
    softcap: float | None = None
    scale: float | None = None
    kv_heads: int | None = None  # heads of key and value; if given, the call passes enable_gqa=True
    lse: str = ""  # the argument that asks for the log-sum-exp: "return_lse" or "return_aux"

    module = "flex_attention"
    blocks = ("flex",)
    is_flex = True
    result_names = ("output", "lse")
    may_warn = "flex_attention called without torch.compile|return_lse is deprecated"
    attn_mask = None

    def mask_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a mask (B, H, L, S), where B and H may be 1; before an adjustment or a slice, it is larger."""
        (samples, heads), (rows, columns) = self.mask_batch, self.block_size
        by = self.blocks_by if name == "kept_mask" else ""
        samples += by in SLICES_OF_SAMPLES
        cut = ADJUSTMENTS.get(by, 0)
        return samples, heads, self.L + rows * (cut or by == "slice_of_queries"), self.S + columns * cut

    def mask_names(self, block: str) -> tuple[str, ...]:
        """Both masks."""
        return "kept_mask", "added_mask"

    @property
    def returns_pair(self) -> bool:
        """True if the call asks for the log-sum-exp beside the output."""
        return bool(self.lse)

    @property
    def has_lists(self) -> bool:
        """True if the BlockMask is made of lists."""
        return self.blocks_by in LISTS

    @property
    def is_adjusted(self) -> bool:
        """True if the BlockMask is made for more blocks, and adjusted."""
        return self.blocks_by in ADJUSTMENTS

    @property
    def has_mask_mod(self) -> bool:
        """True if the BlockMask is given a mask_mod; without one it keeps every position of its blocks."""
        return self.kept_mask is not None and (not self.has_lists or self.kept_mask.pattern != "none")

    @property
    def shares_mask(self) -> tuple[bool, ...]:
        """True for samples, and for heads, if several of them share the masks."""
        return tuple(size < whole for size, whole in zip(self.mask_batch, self.batch, strict=True))

    @property
    def reads_kept_mask(self) -> bool:
        """True if mask_mod reads a mask."""
        return self.has_mask_mod and not self.compares_positions

    @property
    def slices_samples(self) -> bool:
        """True if the BlockMask is made for one more sample, which a slice cuts off."""
        return self.kept_mask is not None and self.blocks_by in SLICES_OF_SAMPLES

    @property
    def compares_positions(self) -> bool:
        """True if mask_mod compares the positions of query and key, and reads no mask."""
        return self.kept_mask is not None and self.kept_mask.pattern == "causal"


@dataclass(frozen=True, repr=False)
class MultiHead(Case):
    """A call of nn.MultiheadAttention or, if `functional`, of F.multi_head_attention_forward.

    The values of `attention` say how query, key and value relate: "self" (one tensor for all three), "copies" (three
    tensors with equal contents), "cross" (key is value), "query_is_key" (as where positions are added to both, but not
    to the value), "distinct" (three tensors).
    """

    N: int = 1  # samples
    L: int = 1  # queries
    S: int = 1  # keys
    num_heads: int = 1
    head_dim: int = 1
    attention: str = "distinct"  # one of ATTENTIONS
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

    has_fast_path = has_parameters = has_training_mode = returns_pair = True
    blocks = ("self",)
    length_fields = ("L", "S")
    hints = ("is_causal",)

    @property
    def is_module(self) -> bool:
        """True unless the function is called."""
        return not self.functional

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The only attention."""
        return (Attention("attn_mask", "key_padding_mask", "query", self.key_input),)

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
        return "query" if self.attention in ("self", "query_is_key") else "key"

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of query, key and value that differ, and static keys and values for each head."""
        shapes: dict[str, tuple[int, ...]] = {"query": (self.N, self.L, self.E)}
        if self.key_input == "key":
            shapes["key"] = (self.N, self.S, self.kdim or self.E)
        if self.attention in ("copies", "query_is_key", "distinct"):
            shapes["value"] = (self.N, self.S, self.vdim or self.E)
        if self.static:
            shapes |= dict.fromkeys(("static_k", "static_v"), (self.N * self.num_heads, self.S, self.head_dim))
        return shapes

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

    has_fast_path = has_layers = has_parameters = has_training_mode = is_module = True
    length_fields = ("S", "T")
    hints = ("src_is_causal", "tgt_is_causal", "memory_is_causal")

    @property
    def _is_split(self) -> bool:
        """True if the last layer of a stack has blocks of its own."""
        return self.autograd in ("one_parameter", "last_layer") and self.num_layers > 1

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of each stack."""
        names = (("src",) if self.has_encoder else ()) + (("tgt", "memory") if self.has_decoder else ())
        parts = (".early", ".last") if self._is_split else ("",)
        return tuple(f"{name}{part}" for name in names for part in parts)

    @property
    def order(self) -> tuple[str, ...]:
        """The blocks of all layers of the encoder, then of those of the decoder."""
        parts = [".early"] * (self.num_layers - 1) + [".last"] if self._is_split else [""] * self.num_layers
        stacks = (("src",) if self.has_encoder else ()), (("tgt", "memory") if self.has_decoder else ())
        return tuple(f"{name}{part}" for names in stacks for part in parts for name in names)

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The attentions of a layer of each stack."""
        return _ATTENTIONS[self.module]

    @property
    def query_input(self) -> str:
        """The target, or without a decoder the source."""
        return "tgt" if self.has_decoder else "src"

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The source, or without an encoder the memory, and the target."""
        lengths = {"src" if self.has_encoder else "memory": self.S} | ({"tgt": self.T} if self.has_decoder else {})
        return {name: (self.N, length, self.E) for name, length in lengths.items()}

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


def masks_of(case: Case) -> dict[str, Mask]:
    """{argument name: Mask} of the masks that are not None."""
    # mypy takes the class, an argument of a cached function, for an instance of it, which need not be hashable
    return {name: mask for name in _mask_names(type(case)) if (mask := getattr(case, name)) is not None}  # type: ignore[arg-type]


@cache
def _mask_names(kind):
    return [field.name for field in fields(kind) if field.name.endswith("mask")]


_SELF = Attention("src_mask", "src_key_padding_mask", "src", "src")
_TARGET = Attention("tgt_mask", "tgt_key_padding_mask", "tgt", "tgt")
_MEMORY = Attention("memory_mask", "memory_key_padding_mask", "tgt", "memory")
_ATTENTIONS = {
    "TransformerEncoderLayer": (_SELF,),
    "TransformerEncoder": (_SELF,),
    "TransformerDecoderLayer": (_TARGET, _MEMORY),
    "TransformerDecoder": (_TARGET, _MEMORY),
    "Transformer": (_SELF, _TARGET, _MEMORY._replace(keys="src")),
}


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
    return any(mixes_types_of(case, *attention.masks) for attention in case.attentions)


def mixes_types_of(case: Case, *names: str) -> bool:
    """True if all masks of these names are given, in at least two dtypes."""
    masks = [getattr(case, name) for name in names]
    return all(masks) and len({mask.dtype_beside(case.dtype) for mask in masks}) > 1


def drops(case: Case) -> bool:
    """True if dropout is active in the call."""
    return case.dropout > 0 and (case.training or not case.has_training_mode)
