"""The fast path's native kernels of nn.TransformerEncoderLayer and nn.MultiheadAttention: masks, biases, gradients."""

from ..cases.case import MultiHead, Transformer
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning, with_kernel
from ..releases import since
from .effects import HidingNonzero
from .entry import Deviation
from .facts import bias_of, gives_float, has_nonzero_finite, is_empty, needs_mask_gradient
from .paths import looks_for_missing_biases, path_of_each_block
from .remedies import EAGER, Remedy, changed, off_the_fast_path, recorded, sequences_first, upgrade


def reads_float_as_bool(call):
    """True if the native encoder layer is given a float mask that a bool one could not express."""
    return any(has_nonzero_finite(call.case, block) for block in call.blocks("native_layer"))


def gives_no_weights_natively(call, mode):
    """True if the native path of nn.MultiheadAttention, in this mode, is not asked for weights, or has none to give."""
    case = call.case
    if case.mode != mode or not isinstance(case, MultiHead):
        return False
    blocks = call.blocks("native_mha")
    return bool(blocks) and (not case.need_weights or is_empty(case, *blocks))


def differentiates(call, path):
    """True if only float masks require a gradient, and one of a block on this path does."""
    return call.case.autograd == "mask" and any(needs_mask_gradient(call.case, block) for block in call.blocks(path))


def converts_masks(call):
    """True if a native path is given a mask that is not bool, or that the module has made so, and has a use for it."""
    blocks = call.blocks("native_mha") + call.blocks("native_layer")
    blocks = [block for block in blocks if not is_empty(call.case, block)]
    if since(call.release, "2.0"):
        return any(bias_of(call.case, block) is not None for block in blocks)
    return any(gives_float(call.case, block) for block in blocks)


def blocks_without_a_bias(call):
    """The blocks whose native path is given no bias, which it takes from 2.1 on only if there is one."""
    return () if getattr(call.case, "bias", True) else call.blocks("native_mha")


def native_layers(call, *activations):
    """The blocks of encoder layers on their native path, if they have one of these activations."""
    if getattr(call.case, "activation", None) not in activations:
        return ()
    paths = path_of_each_block(call.case, call.release)  # the nested path's, too
    return tuple(block for block, path in paths.items() if path == "native_layer")


def misses_a_bias(computation, call):
    """What nn.MultiheadAttention(bias=False) raises on its native path."""
    if since(call.release, "1.13.1"):
        return raising(computation, "TypeError", "'qkv_bias'.* must be Tensor, not NoneType")
    return raising(computation, "AttributeError", "'NoneType' object has no attribute 'is_cuda'")


def misses_the_layers_biases(call):
    """True if an encoder layer without biases asks them for their device before anything else, in 2.1 and 2.2."""
    asks = since(call.release, "2.1") and not since(call.release, "2.3")
    return asks and looks_for_missing_biases(call.case, call.release)


ENTRIES = (
    Deviation(
        id="native-layer-float-mask",
        title="nn.TransformerEncoderLayer reads a float mask as a bool one in eval",
        affects=">=1.13",
        upstream="pytorch/pytorch#118628",
        clause=2,
        trigger="a float mask with a finite value other than 0, on the native path of the encoder layer",
        instead="every key whose mask is not 0 is hidden",
        applies=reads_float_as_bool,
        change=lambda computation, call: with_kernel(
            computation, lambda _: HidingNonzero(), call.blocks("native_layer")
        ),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("float", "one", "finite")),
        devices=ON_BOTH,
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="native-mha-float-mask",
        title="nn.MultiheadAttention reads a float mask as a bool one in eval",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#107084",
        clause=2,
        trigger="a float mask with a finite value other than 0, on the native path of self-attention",
        instead="every key whose mask is not 0 is hidden",
        applies=lambda call: any(has_nonzero_finite(call.case, block) for block in call.blocks("native_mha")),
        change=lambda computation, call: with_kernel(computation, lambda _: HidingNonzero(), call.blocks("native_mha")),
        pinned=MultiHead(L=2, S=2, num_heads=2, attention="self", key_padding_mask=Mask("float", "one", "finite")),
        remedies=(sequences_first(), recorded(), upgrade("2.1")),
    ),
    Deviation(
        id="native-converts-mask-warning",
        title="The native paths warn of a conversion that they do themselves",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97532",
        clause=10,
        trigger="any mask on a native path, in 2.0 bool ones included",
        instead="a UserWarning that a mask is converted to bool, though the caller's was bool",
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
        trigger="a float mask that requires a gradient, in eval, where no parameter and no input does",
        instead="backward raises, since the native path has no derivative",
        applies=lambda call: differentiates(call, "native_layer"),
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
        trigger="a float mask that requires a gradient, in eval self-attention, where no parameter and no input does",
        instead="backward raises, since the native path has no derivative",
        applies=lambda call: differentiates(call, "native_mha"),
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
        title="nn.MultiheadAttention with bias=False raises in eval",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97128",
        clause=1,
        trigger="bias=False on the native path of self-attention",
        instead="TypeError, in 1.13.0 AttributeError, since the native path needs a bias",
        applies=lambda call: bool(blocks_without_a_bias(call)),
        change=misses_a_bias,
        pinned=MultiHead(num_heads=2, attention="self", bias=False),
        stage="attention",
        remedies=(sequences_first(), recorded(), upgrade("2.1")),
    ),
    Deviation(
        id="native-layer-bias",
        title="nn.TransformerEncoderLayer with bias=False raises in eval",
        affects=">=2.1,<2.3",
        upstream="pytorch/pytorch#116385",
        clause=1,
        trigger="bias=False and an even number of heads, in eval with batch_first=True, with or without autograd",
        instead="AttributeError, since the layer asks its missing biases for their device",
        applies=lambda call: looks_for_missing_biases(call.case, call.release),
        change=lambda computation, call: raising(
            computation, "AttributeError", "'NoneType' object has no attribute '(device|requires_grad)'"
        ),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, bias=False),
        stage="stack",
        remedies=(sequences_first(), upgrade("2.3")),
    ),
)
