"""A case: everything that determines one call, as frozen plain data. Its repr can be pasted back.

The kinds of case are in case.py, from which all names are imported.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .masks import Mask
from .spelling import Spelled

WRITTEN = "written"  # prefix of the ids of modes with attention written by hand (modes/written.py)


class Attention(NamedTuple):
    """An attention of a module, by the names of its arguments."""

    attn_mask: str
    key_padding_mask: str
    queries: str  # the input from which queries are projected
    keys: str  # the input from which keys are projected

    @property
    def masks(self) -> tuple[str, str]:
        """The names of both masks."""
        return self.attn_mask, self.key_padding_mask


@dataclass(frozen=True, repr=False)
class Case(Spelled):
    """The fields that all calls share: dtype, seed, memory layout, mode and setting of autograd.

    The attributes and properties that differ between the kinds of call are named here, with the value that most calls
    have, so that code asks a case for its property and not for its kind.

    The values of `autograd` say which tensors require a gradient:

        grad            parameters, inputs and float masks
        inputs          inputs only
        parameters      parameters only
        parameters_and_masks   parameters and float masks, as in the first layer of a model
        one_input       one input of scaled_dot_product_attention, chosen by the seed
        mask            float masks only
        last_layer      the parameters of the last layer of each stack, and of norms after it
        one_parameter   one parameter of those, chosen by the seed
        frozen          none
        no_grad, inference_mode   parameters; the call runs under torch.no_grad() or torch.inference_mode(), where the
                        seed decides if inputs and masks are made under it, too

    Inputs whose layout is "expanded" repeat some of their contents, as the seed decides, so that they can be expanded.
    """

    dtype: str = "float64"  # of inputs, parameters and, unless Mask.dtype differs, float masks
    seed: int = 0  # of all contents
    autograd: str = "no_grad"  # which tensors require a gradient; one of AUTOGRAD, "one_input" or LEARNED
    layout: str = "contiguous"  # memory layout of the inputs, and of the gradients of results (masks.LAYOUTS)
    garbage: bool = False  # positions hidden from every query hold large numbers
    mode: str = "eager"  # id of a mode (modes/modes.py): how the module is created and called
    nan_query: bool = False  # one row of `query` is NaN; queries and keys are separate tensors
    nonfinite: str = ""  # "nan" or "inf" (of either sign): held by positions hidden from every query

    if TYPE_CHECKING:  # the other fields depend on the kind of case

        def __getattr__(self, name: str) -> Any: ...

    else:  # class attributes: the values that calls have which lack the field
        attends = True  # False if the call only makes a mask and computes no attention
        is_flex = False  # True if the masks are functions, as in FlexAttention
        has_fast_path = False  # True if the call can be made with `fast_path` off
        has_layers = False  # True if attentions are parts of layers with norms and feed-forwards
        has_parameters = False  # True if inputs are projected
        has_training_mode = False  # True if the call can be made with `training`
        returns_pair = False  # True if the call returns two results, of which the second may be None
        is_module = False  # True if a module is called, not a function
        result_names = ("output", "weights")  # the names of all results that the function can return
        may_warn = ""  # a regular expression of warnings that torch documents for such calls
        true_hides = True  # the polarity of a bool mask: False if it keeps where True
        length_fields = ()  # the fields that hold lengths of sequences
        attentions = ()  # of a module; SDPA, which takes one mask and merges none, has none
        hints = ()  # names of the arguments that declare a mask causal; the is_causal of SDPA is a mask itself
        batch = mask_batch = ()
        functional = static = add_bias_kv = add_zero_attn = separate_projections = need_weights = is_causal = False
        training = False
        norm = norm_first = has_encoder = has_decoder = False
        batched = batch_first = bias = enable_nested_tensor = mask_check = fast_path = True
        only = scale = kdim = vdim = kv_heads = key_padding_mask = None
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
    def order(self) -> tuple[str, ...]:
        """The blocks in the order of computation, one for each layer."""
        return self.blocks

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the blocks, each once."""
        return tuple(dict.fromkeys(map(source_of, self.blocks)))

    @property
    def query_input(self) -> str:
        """The name of the input that supplies the queries of the output."""
        return "query"

    @property
    def batch_size(self) -> int:
        """The number of samples in the inputs, of which `only` may choose one."""
        return self.N

    @property
    def heads(self) -> int:
        """The number of heads."""
        return self.num_heads

    @property
    def samples(self) -> int:
        """The number of samples in the call."""
        return self.batch_size if self.only is None else 1

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the sequences."""
        return tuple(getattr(self, name) for name in self.length_fields)

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
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: batch-first shape} of the inputs for all samples."""
        return {}

    def mask_shape(self, name: str) -> tuple[int, ...]:
        """The shape of the mask of this name for all samples, with at least the dimensions of queries and keys."""
        block = name.partition("_")[0]
        queries, keys = self.number_of_queries(block), self.number_of_keys(block)
        if is_padding(name):
            return self.N, keys
        return (self.N * self.num_heads, queries, keys) if getattr(self, name).per_head else (queries, keys)

    def hint(self, block: str) -> str:
        """The name of the argument that declares the attention mask of a block causal, or is a causal mask."""
        return hint_about(self.mask_names(block)[0])

    def without_hint(self, mask: str) -> dict[str, Any]:
        """{name: value} of the hint about the mask of this name in a call that has none; empty if it takes none."""
        name = hint_about(mask)
        return {name: getattr(type(self), name)} if name in self.hints else {}

    @property
    def is_hinted(self) -> bool:
        """True if a hint says that a mask is causal."""
        return any(getattr(self, name) for name in self.hints)

    @property
    def asks_for_causal_mask(self) -> bool:
        """True if is_causal=True stands for a mask, as in SDPA, and is not a hint about one."""
        return self.is_causal and "is_causal" not in self.hints

    @property
    def is_declared_causal(self) -> bool:
        """True if an argument asks for a causal mask, or says that a mask is causal."""
        return self.is_causal or self.is_hinted

    @property
    def holds_nan(self) -> bool:
        """True if the specification allows NaN in a result."""
        is_in_mask = any(isinstance(value, Mask) and value.holds_nan for value in vars(self).values())
        return self.nan_query or self.nonfinite != "" or is_in_mask or self.mode.startswith(WRITTEN)


def source_of(block: str) -> str:
    """The source of the keys of a block: its name without the part of the stack."""
    return block.partition(".")[0]


def hint_about(mask: str) -> str:
    """The name of the argument that says that the attention mask of this name is causal."""
    return "is_causal" if mask == "attn_mask" else mask.replace("_mask", "_is_causal")


def is_padding(name: str) -> bool:
    """True if the argument of this name is a key padding mask, False if an attention mask."""
    return name.endswith("key_padding_mask")
