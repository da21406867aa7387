"""The fast paths of nn.TransformerEncoderLayer and nn.MultiheadAttention: masks, biases, gradients."""

from ..cases.case import MultiHead, Transformer
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning, with_kernel
from ..expectation.specification import Computation
from ..path_names import NATIVE_LAYER, NATIVE_MHA
from ..releases import since
from .call import Call
from .effects import HidingNonzero
from .entry import Deviation
from .facts import bias_of, does_more_than_hide, gives_float, is_empty, needs_mask_gradient
from .paths import looks_for_missing_biases, path_of_each_block
from .remedies import EAGER, Remedy, changed, off_the_fast_path, recorded, sequences_first, upgrade


def reads_float_as_bool(call: Call) -> bool:
    """True if the encoder layer's fast path gets a float mask that no bool mask can express."""
    return any(does_more_than_hide(call.case, block) for block in call.blocks(NATIVE_LAYER))


def gives_no_weights_natively(call: Call, mode: str) -> bool:
    """True if nn.MultiheadAttention, in this mode and on its fast path, returns no weights, or empty ones."""
    case = call.case
    if case.mode != mode or case.has_layers:
        return False
    blocks = call.blocks(NATIVE_MHA)
    return bool(blocks) and (not case.need_weights or is_empty(case, *blocks))


def differentiates(call: Call, path: str) -> bool:
    """True if only float masks require a gradient, and one of a block on this path does."""
    return call.case.autograd == "mask" and any(needs_mask_gradient(call.case, block) for block in call.blocks(path))


def converts_masks(call: Call) -> bool:
    """True if a fast path that has scores to compute gets a mask that is not bool, or that the module has converted."""
    blocks = call.blocks(NATIVE_MHA) + call.blocks(NATIVE_LAYER)
    blocks = tuple(block for block in blocks if not is_empty(call.case, block))
    if since(call.release, "2.0"):
        return any(bias_of(call.case, block) is not None for block in blocks)
    return any(gives_float(call.case, block) for block in blocks)


def blocks_without_a_bias(call: Call) -> tuple[str, ...]:
    """The blocks with bias=False on the fast path of nn.MultiheadAttention, which before 2.1 opens without a bias."""
    return () if call.case.bias else call.blocks(NATIVE_MHA)


def native_layers(call: Call, *activations: str) -> tuple[str, ...]:
    """The encoder blocks whose layers are on their fast path and have one of these activations."""
    if call.case.activation not in activations:
        return ()
    paths = path_of_each_block(call.case, call.release)  # of the nested path, too
    return tuple(block for block, path in paths.items() if path == NATIVE_LAYER)


def misses_a_bias(computation: Computation, call: Call) -> Computation:
    """nn.MultiheadAttention(bias=False) raises on its fast path."""
    if since(call.release, "1.13.1"):
        return raising(computation, "TypeError", "'qkv_bias'.* must be Tensor, not NoneType")
    return raising(computation, "AttributeError", "'NoneType' object has no attribute 'is_cuda'")


def misses_the_layers_biases(call: Call) -> bool:
    """True if an encoder layer reads the device of its missing biases before all else, as in 2.1 and 2.2."""
    asks = since(call.release, "2.1") and not since(call.release, "2.3")
    return asks and looks_for_missing_biases(call.case, call.release)


ENTRIES = (
    Deviation(
        id="native-layer-float-mask",
        title="nn.TransformerEncoderLayer reads a float mask as a bool mask in eval mode",
        affects=">=1.13",
        upstream="pytorch/pytorch#118628",
        clause=2,
        trigger="a float mask with a value other than 0 and -inf (NaN, too), on the fast path of"
        " nn.TransformerEncoderLayer",
        instead="every key whose mask is not 0 is hidden",
        applies=reads_float_as_bool,
        change=lambda computation, call: with_kernel(computation, lambda _: HidingNonzero(), call.blocks(NATIVE_LAYER)),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("float", "one", "finite")),
        devices=ON_BOTH,
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="native-mha-float-mask",
        title="nn.MultiheadAttention reads a float mask as a bool mask in eval mode",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#107084",
        clause=2,
        trigger="a float mask with a value other than 0 and -inf (NaN, too), on the fast path of self-attention (in"
        " 1.13 a padding mask, with no attn_mask)",
        instead="every key whose mask is not 0 is hidden",
        applies=lambda call: any(does_more_than_hide(call.case, block) for block in call.blocks(NATIVE_MHA)),
        change=lambda computation, call: with_kernel(computation, lambda _: HidingNonzero(), call.blocks(NATIVE_MHA)),
        pinned=MultiHead(L=2, S=2, num_heads=2, attention="self", key_padding_mask=Mask("float", "one", "finite")),
        remedies=(sequences_first(), recorded(), upgrade("2.1")),
    ),
    Deviation(
        id="native-converts-mask-warning",
        title="The fast paths warn of a mask conversion that torch does itself",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97532",
        clause=10,
        trigger="a float mask on a fast path, in 2.0 also a bool mask",
        instead="a UserWarning that a mask is converted to bool, even if the caller's mask is bool",
        applies=converts_masks,
        change=lambda computation, call: warning(computation, "Converting mask without torch.bool dtype to bool"),
        pinned=MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("float", "none")),
        remedies=(
            Remedy(
                "Ignore the warning by warnings.filterwarnings.", changed(mode="silenced_conversion"), only=(EAGER,)
            ),
            sequences_first(),
            recorded(),
            upgrade("2.1"),
        ),
    ),
    Deviation(
        id="native-layer-mask-gradient",
        title="A float mask cannot be learned while the encoder layer's parameters are frozen",
        affects=">=1.13",
        upstream="not found",
        clause=5,
        trigger="a float mask that requires a gradient, in eval mode, if no parameter and no input does, on the fast"
        " path of nn.TransformerEncoderLayer (in 1.13 a padding mask, with no src_mask)",
        instead="backward raises, since the fast path has no derivative",
        applies=lambda call: differentiates(call, NATIVE_LAYER),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "derivative for aten::_transformer_encoder_layer_fwd is not implemented"
        ),
        pinned=Transformer(
            autograd="mask", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("float", "one", "inf")
        ),
        devices=ON_BOTH,
        stage="backward",
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="native-mha-mask-gradient",
        title="A float mask cannot be learned while the attention's parameters are frozen",
        affects=">=1.13,<2.1",
        upstream="not found",
        clause=5,
        trigger="a float mask that requires a gradient, in self-attention in eval mode, if no parameter and no input"
        " does, on the fast path (in 1.13 a padding mask, with no attn_mask)",
        instead="backward raises, since the fast path has no derivative",
        applies=lambda call: differentiates(call, NATIVE_MHA),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "derivative for aten::_native_multi_head_attention is not implemented"
        ),
        pinned=MultiHead(
            autograd="mask", L=2, S=2, num_heads=2, attention="self", key_padding_mask=Mask("float", "one", "inf")
        ),
        stage="backward",
        remedies=(sequences_first(), recorded(), upgrade("2.1")),
    ),
    Deviation(
        id="native-mha-bias",
        title="nn.MultiheadAttention with bias=False raises in eval mode",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97128",
        clause=1,
        trigger="bias=False on the fast path of self-attention",
        instead="TypeError, in 1.13.0 AttributeError: the fast path needs a bias",
        applies=lambda call: bool(blocks_without_a_bias(call)),
        change=misses_a_bias,
        pinned=MultiHead(num_heads=2, attention="self", bias=False),
        stage="attention",
        remedies=(sequences_first(), recorded(), upgrade("2.1")),
    ),
    Deviation(
        id="native-layer-bias",
        title="nn.TransformerEncoderLayer with bias=False raises in eval mode",
        affects=">=2.1,<2.3",
        upstream="pytorch/pytorch#116385",
        clause=1,
        trigger="bias=False, an even number of heads and ReLU or GELU, in eval mode with batch_first=True, for a"
        " batch, with or without autograd",
        instead="AttributeError: the layer reads the device of its biases, which are None",
        applies=lambda call: looks_for_missing_biases(call.case, call.release),
        change=lambda computation, call: raising(
            computation, "AttributeError", "'NoneType' object has no attribute '(device|requires_grad)'"
        ),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, bias=False),
        stage="stack",
        remedies=(sequences_first(), upgrade("2.3")),
    ),
)
