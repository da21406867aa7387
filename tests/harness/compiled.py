"""Where what is compiled meets what it was not told, or cannot know. A call is a situations.Call."""

from . import dispatch
from .cases import Transformer
from .dispatch import since
from .modes import BY_ID
from .subject import arguments


def packs_fake_tensors(call):
    """Whether a compiled encoder packs if padding comes last: on fake tensors it always seems to.

    Where sizes are left open the graph breaks there, and real ones are packed.
    """
    mode = BY_ID[call.case.mode]
    is_fake = mode.family == "compiled" and not mode.id.endswith("_dynamic")
    return is_fake and dispatch.nested_on_fake_tensors(call.case, call.release)


def asks_in_a_graph(call):
    """Whether an encoder looks where padding is before anything else breaks a graph that has to be whole."""
    case, release = call.case, call.release
    if case.mode != "compiled_fullgraph" or not (since(release, "2.5") and not since(release, "2.10")):
        return False
    if not isinstance(case, Transformer) or not dispatch.asks_for_alignment(case, release):
        return False
    masks = (case.src_mask, case.src_key_padding_mask)
    return None in masks or masks[0].form == masks[1].form  # else it warns before


def asks_of_a_view(call):
    """Whether an exported encoder looks where padding is, and its src has gaps in memory."""
    case = call.case
    if case.mode != "exported" or not isinstance(case, Transformer) or case.layout not in ("sliced", "stepped"):
        return False
    return dispatch.asks_for_alignment(case, call.release)


def strides_are_not_as_told(call):
    """Whether a native encoder layer is built into a graph and given a src that is dense, but not contiguous.

    On fake tensors its result is laid out as src is, in truth it is contiguous; what is packed is so on both.
    """
    case = call.case
    if not BY_ID[case.mode].builds or not isinstance(case, Transformer) or not case.has_encoder:
        return False
    if dispatch.nested(case, call.release):
        return False
    is_first = dispatch.paths(case, call.release)[dispatch.blocks(case)[0]] == "native_layer"
    is_dense = case.layout == "transposed" and not arguments(case)["src"].is_contiguous()
    return is_first and is_dense and dispatch.is_compiled_whole(case, call.release)
