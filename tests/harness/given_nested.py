"""Where nested tensors that the caller gives meet what does not take them, or not so. A call is a situations.Call."""

from . import dispatch
from .arrays import directions, the_parameter
from .behaviours import raising, warning
from .cases import ScaledDotProduct, Transformer, masks_of
from .dispatch import asks_for_alignment, since
from .packing import BESIDE
from .triggers import misses_the_layers_biases


def meets_no_native_path(call):
    """Whether a module is given a nested tensor in a block that takes no native path, or masks besides."""
    case = call.case
    if call.lengths is None or isinstance(case, ScaledDotProduct) or misses_the_layers_biases(call):
        return False
    if is_asked_for_padding(call):
        return False
    is_native = {"native_mha", "native_layer"}.issuperset(dispatch.paths(case, call.release).values())
    return not is_native or bool(masks_of(case)) or case.mode == "nested_jagged"


def is_asked_for_padding(call):
    """Whether nn.TransformerEncoder is given one, and padding besides, and asks whether that comes last."""
    case = call.case
    return case.mode == BESIDE and isinstance(case, Transformer) and asks_for_alignment(case, call.release)


def norms_a_nested_tensor(call):
    """Whether LayerNorm itself is given a nested tensor, in 2.0 one that autograd goes back through."""
    case = call.case
    if call.lengths is None or not isinstance(case, Transformer):
        return False
    if not case.norm and "native_mha" not in dispatch.paths(case, call.release).values():
        return False
    return not since(call.release, "2.0") or (
        bool(directions(case)) and (case.norm or not case.norm_first or "norm" in the_parameter(case))
    )


def weighs_nothing(call):
    """Whether nn.MultiheadAttention is given, on its native path, a nested tensor of empty sequences."""
    return call.lengths is not None and not any(call.lengths) and bool(call.blocks("native_mha"))


def is_nested_sdpa(call, *modes):
    """Whether scaled_dot_product_attention is given nested tensors, in one of these modes."""
    return call.case.mode in modes and isinstance(call.case, ScaledDotProduct)


def has_no_backend(call):
    """Whether it is given jagged ones, and is_causal or no dimension of heads, for which no backend is left."""
    case = call.case
    if not is_nested_sdpa(call, "nested_jagged"):
        return False
    is_fit = call.release.device_type == "cuda" and case.dtype == "float32" and case.D % 4 == case.Dv % 4 == 0
    return len(case.batch) == 1 or (case.is_causal and not is_fit)


def find_no_backend(computation, call):
    """The error, and on CUDA the reasons of each kernel, which come as warnings."""
    reasons = "Flash attention requires|requires last dimension|requires query, key and|Expected query, key and value"
    return raising(
        warning(computation, reasons),
        "RuntimeError|AcceleratorError",
        "No viable backend|CUDA|split_with_sizes expects|expected to contain only concrete integers",
    )


def attends_to_nothing(call):
    """Whether it is given nested tensors in which no sample has a key."""
    return (
        is_nested_sdpa(call, "nested_strided", "nested_jagged") and not any(call.lengths) and not has_no_backend(call)
    )


def scores_less_than_it_asks(call):
    """Whether it is given nested tensors with fewer scores than queries, of which a sample has L, if not S == L."""
    if not is_nested_sdpa(call, "nested_strided", "nested_jagged") or has_no_backend(call):
        return False
    return call.case.L != call.case.S and 0 < sum(call.lengths) < len(call.lengths)
