"""Calls through torch.utils.checkpoint."""

from dataclasses import replace

from ..cases.case import FlexAttention, MultiHead, Transformer
from ..cases.masks import Mask
from ..contents.arrays import directions, the_parameter
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning
from ..judgement import left_out
from .call import Call
from .causal_hints import dropped_masks
from .entry import Deviation
from .nested_tensors import is_nested, norms_a_packed_batch, unpacks_in_time
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    FIRST_KEY_AND_SEQUENCES_FIRST,
    NO_LARGE_ROW,
    NOT_NESTED,
    OWN_DTYPE,
    Remedy,
    changed,
    in_releases,
    off_the_fast_path,
    upgrade,
    without,
)


def recomputes(call: Call) -> bool:
    """True if a module is called through a checkpoint, and a backward pass goes through it."""
    case = call.case
    if case.mode == "checkpoint_reentrant":
        return bool(directions(case))
    if case.mode != "checkpoint" or _needs_nothing_saved(case):
        return False
    if case.autograd != "mask":
        return bool(directions(case))
    lost = {*dropped_masks(call), *(["src_key_padding_mask"] if is_nested(call) else [])}
    return bool(directions(case).keys() - lost)


def _needs_nothing_saved(case):
    """True if the only trained parameter is the last addend of the result, so that its gradient needs nothing saved."""
    if case.autograd != "one_parameter":
        return False
    if not case.has_layers:
        return the_parameter(case) == "out_proj.bias"
    adds_last = case.norm_first and not case.norm and case.module != "Transformer"
    last = "linear2.bias" if case.module.endswith("Layer") else f"layers.{case.num_layers - 1}.linear2.bias"
    return adds_last and the_parameter(case) == last


def saves_a_packed_batch(call: Call) -> bool:
    """True if autograd saves a packed batch in a checkpoint, which asks for the shape of all saved tensors."""
    return call.case.mode == "checkpoint" and norms_a_packed_batch(call) and not unpacks_in_time(call)


def loses_score_mod(call: Call) -> bool:
    """True if a checkpoint saves nothing for the derivative of score_mod, on which some gradient depends.

    Those of query and key depend on it where score_mod is not the score, or a sum with it; that of a mask, always.
    """
    case = call.case
    if not case.is_flex or case.mode != "checkpoint":
        return False
    bends = case.softcap is not None or (case.added_mask is not None and not case.added_mask.is_float)
    return "added_mask" in directions(case) or (bends and not directions(case).keys().isdisjoint(("query", "key")))


_NOT_NESTED = replace(NOT_NESTED, only=(*NOT_NESTED.only, OWN_DTYPE))

ENTRIES = (
    Deviation(
        id="nested-checkpoint",
        title="torch.utils.checkpoint around nn.TransformerEncoder raises in eval mode if a later layer is trained"
        " except for its attention",
        affects=">=2.1",
        upstream="not found",
        clause=3,
        trigger="src_key_padding_mask in eval mode, through a checkpoint that is not reentrant, if the first layer is"
        " frozen and, of a later layer, only the attention is frozen",
        instead="RuntimeError: the checkpoint asks for the shape of the packed batch, which autograd saves",
        applies=saves_a_packed_batch,
        change=lambda computation, call: raising(computation, "RuntimeError", "NestedTensorImpl doesn't support sizes"),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="one_parameter",
            mode="checkpoint",
            seed=4,
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
        devices=ON_BOTH,
        stage="layer",
        remedies=(
            *in_releases("!=2.4.*", _NOT_NESTED, *off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
            Remedy(
                "Make the call without a checkpoint, and let parameters and inputs require a gradient.",
                changed(mode="eager", autograd="grad"),
                "==2.4.*",  # the checkpoint of 2.4 warns
                (EVERY_QUERY_SEES_A_KEY, OWN_DTYPE, NO_LARGE_ROW),
                "memory: the call is recorded",
            ),
        ),
    ),
    Deviation(
        id="checkpoint-autocast-warning",
        title="torch.utils.checkpoint warns of a deprecated function that it calls itself",
        affects=">=2.4,<2.5",
        upstream="pytorch/pytorch#130659",
        clause=10,
        trigger="a module is called through torch.utils.checkpoint, and a gradient is asked for",
        instead="a FutureWarning about torch.cpu.amp.autocast, which the caller has not used",
        applies=recomputes,
        change=lambda computation, call: warning(
            computation, r"torch\.cpu\.amp\.autocast\(args\.\.\.\)` is deprecated"
        ),
        pinned=MultiHead(autograd="inputs", mode="checkpoint", attention="self"),
        remedies=(
            without("a checkpoint", cost="memory"),
            upgrade("2.5"),
        ),
    ),
    Deviation(
        id="flex-checkpoint-gradient",
        title="Gradients of flex_attention in torch.utils.checkpoint are garbage if score_mod has a derivative",
        affects=">=2.5",
        upstream="not found",
        clause=3,
        trigger="flex_attention with a score_mod that bends or hides scores, or adds a tensor that requires a gradient,"
        " in a checkpoint that is not reentrant; since 2.11 only such a tensor, as flex_attention refuses gradients of"
        " query, key and value on CPU",
        instead="the gradients of query and key, or of the tensor, are what happens to be in memory, and differ from"
        " run to run, silently; the output and the gradient of value are right",
        applies=loses_score_mod,
        change=lambda computation, call: replace(computation, undefined_gradient=left_out.MEMORY),
        pinned=FlexAttention(
            mode="checkpoint", autograd="mask", S=2, D=2, Dv=2, added_mask=Mask("float", "none", "bias")
        ),
        remedies=(without("a checkpoint", cost="memory"),),
    ),
)
