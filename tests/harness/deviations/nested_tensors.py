"""The nested path: nn.TransformerEncoder packs a padded batch into a nested tensor."""

from dataclasses import dataclass, replace

import numpy as np

from reference.transformer import Encoder
from reference.transformer import Transformer as WholeTransformer

from ..cases.case import Case, Transformer, source_of
from ..cases.masks import Mask, SeeingFirst
from ..contents.arrays import mask_arrays, the_parameter
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..path_names import NATIVE_LAYER
from ..releases import since
from .call import Call
from .effects import _NO_ELEMENTS
from .entry import Deviation
from .facts import does_more_than_hide, is_cast
from .given_nested import norms_a_nested_tensor
from .paths import (
    asks_for_alignment,
    fast_path_is_open,
    is_left_aligned,
    nested_lengths,
    path_of_each_block,
    takes_nested_path,
)
from .remedies import (
    EAGER,
    ENCODER,
    EXACT_ACTIVATION,
    FIRST_KEY_AND_SEQUENCES_FIRST,
    NATIVE,
    NO_EMPTY_MASK,
    NO_LARGE_ROW,
    NOT_NESTED,
    OTHER_NUMBERS,
    OWN_DTYPE,
    Condition,
    Remedy,
    as_kind,
    changed,
    off_the_fast_path,
    on_native_paths,
    recorded,
    sequences_first,
)


@dataclass(frozen=True)
class Packed:
    """The nested path of nn.TransformerEncoder: kept positions are computed, all others are 0 before the final norm."""

    encoder: Encoder
    lengths: tuple[int, ...]  # positions that are kept of each sample, counted from its start
    width: int  # length of the output

    def __call__(self, src, src_mask=None, src_key_padding_mask=None):
        encoder = replace(self.encoder, norm=None)
        samples = [self._padded(encoder, src[n : n + 1, :kept]) for n, kept in enumerate(self.lengths)]
        output = np.concatenate([src[:0, : self.width], *samples])
        return output if self.encoder.norm is None else self.encoder.norm(output)

    def _padded(self, encoder, sample):
        """The output for the kept positions of one sample (1, kept, E), with zeros behind them: (1, width, E)."""
        _, kept, E = sample.shape
        output = encoder(sample) if kept else sample
        return np.concatenate([output, np.zeros((1, self.width - kept, E), output.dtype)], axis=1)


def packed(computation: Computation, case: Case) -> Computation:
    """The computation with nn.TransformerEncoder on a nested tensor, alone or in nn.Transformer."""
    if isinstance(_encoder(computation), Packed):
        return computation
    lengths = tuple(int(n) for n in nested_lengths(case)[0])
    computation = _with_encoder(computation, Packed(_encoder(computation), lengths, case.S))
    return replace(computation, ignores_garbage=case.module == "TransformerEncoder")


def truncated(computation: Computation) -> Computation:
    """The computation whose nested path returns an output as long as the longest sample."""
    encoder = _encoder(computation)
    return _with_encoder(computation, replace(encoder, width=max(encoder.lengths, default=0)))


def _encoder(computation):
    function = computation.function
    return function.encoder if isinstance(function, WholeTransformer) else function


def _with_encoder(computation, encoder):
    function = computation.function
    whole = replace(function, encoder=encoder) if isinstance(function, WholeTransformer) else encoder
    return replace(computation, function=whole)


def packs_no_sample_fast(call: Call) -> bool:
    """True if the encoder packs a batch of no samples, in a dtype for which CUDA has a fast conversion."""
    return packs_no_sample(call) and call.release.device_type == "cuda" and call.case.dtype in ("float32", "float16")


def unpacks_too_late(call: Call) -> bool:
    """True if a packed batch arrives at a layer that takes no fast path."""
    rest, alone = _packed_blocks(call)
    if alone and packs_nothing(call):  # an attention on its fast path unpacks a batch of padding at once
        return False
    return len(alone) < len(rest)


def _packed_blocks(call):
    """(blocks that get a packed batch in a layer off its fast path, those of them with an attention on its own)."""
    case, release = call.case, call.release
    paths = path_of_each_block(case, release).items() if is_nested(call) else ()
    rest = [block for block, path in paths if source_of(block) == "src" and path != NATIVE_LAYER]
    if case.dropout and not since(release, "2.0"):  # dropout keeps the attention off its fast path, in eval mode too
        return rest, []
    return rest, [block for block in rest if fast_path_is_open(case, release, block, "attention")]


def norms_a_packed_batch(call: Call) -> bool:
    """True if a packed batch arrives at a layer that is off its fast path, with an attention on its own."""
    rest, alone = _packed_blocks(call)
    return bool(alone) and rest == alone


def casts_for_packed_padding(call: Call) -> bool:
    """True if autocast casts operands of the attention that gets a packed batch of padding; a norm comes after it."""
    is_there = packs_nothing(call) and call.case.N * call.case.S > 0
    return is_cast(call.case) and is_there and norms_a_packed_batch(call)


def unpacks_in_time(call: Call) -> bool:
    """True if an attention on its fast path, in a layer off it, unpacks first, as it does a batch of padding."""
    return packs_nothing(call) and (since(call.release, "2.2") or call.case.N * call.case.S == 0)


def packs_no_sample(call: Call) -> bool:
    """True if the encoder packs a batch of no samples."""
    return is_nested(call) and call.case.N == 0


def looks_at_no_position(call: Call) -> bool:
    """True if the encoder packs, or checks if padding comes last, in sequences of length 0."""
    case = call.case
    if not case.has_encoder or case.S:
        return False
    return asks_for_alignment(case, call.release) or is_nested(call)


def is_nested(call: Call) -> bool:
    """True if the encoder packs the batch into a nested tensor."""
    return takes_nested_path(call.case, call.release)


def is_unaligned(call: Call) -> bool:
    """True if the encoder packs although padding comes before content, which mask_check would have prevented."""
    return is_nested(call) and not is_left_aligned(nested_lengths(call.case)[1])


def packs_what_is_hidden(call: Call) -> bool:
    """True if the encoder packs, and leaves out exactly the hidden positions."""
    return is_nested(call) and not is_unaligned(call) and not does_more_than_hide(call.case, "src")


def truncates(call: Call) -> bool:
    """True if the encoder packs, and the longest sample is shorter than the batch."""
    if not is_nested(call):
        return False
    return nested_lengths(call.case)[0].max(initial=0) < call.case.S


def memory_is_too_short(call: Call) -> bool:
    """True if the decoder's first layer raises, since its memory is shorter than its masks."""
    return (
        not since(call.release, "2.1")
        and truncates(call)
        and bool(call.case.memory_mask or call.case.memory_key_padding_mask)
    )


def truncate(computation: Computation, call: Call) -> Computation:
    """The computation with a truncated output of the encoder.

    In nn.Transformer this output is the memory, and memory masks of the right shape no longer fit it.
    """
    computation = truncated(packed(computation, call.case))
    if BY_ID[call.case.mode].family == "traced" and memory_is_too_short(call):  # the example inputs pass
        return raising(computation, "RuntimeError", "The following operation failed in the TorchScript interpreter")
    if call.case.memory_mask is not None:
        return raising(computation, "RuntimeError", r"The shape of the [23]D attn_mask is .*, but should be")
    if call.case.memory_key_padding_mask is not None:
        return raising(computation, "AssertionError", "expecting key_padding_mask shape of")
    return computation


def packs_nothing(call: Call) -> bool:
    """True if the encoder packs a batch in which every position is padding."""
    return is_nested(call) and not nested_lengths(call.case)[0].any()


def differentiates_twice(call: Call) -> bool:
    """True if the gradient of a parameter within the packed layers is differentiated again.

    A gradient of self_attn raises in the forward pass. That of the last bias of all depends on nothing.
    """
    case = call.case
    if not BY_ID[case.mode].is_second_order or case.autograd != "one_parameter" or not is_nested(call):
        return False
    stack, layers, name = the_parameter(case).rpartition("layers.")
    is_last = name.partition(".")[2] == "norm2.bias" and not (case.norm or case.module == "Transformer")
    return layers != "" and stack in ("", "encoder.") and not is_last


NO_MASK_GRADIENT = Condition("no mask alone requires a gradient", lambda case: case.autograd != "mask")

NO_PADDING = Condition(
    "no position is padding",
    lambda case: not any(array.any() for name, array in mask_arrays(case).items() if name == "src_key_padding_mask"),
)

ENTRIES = (
    Deviation(
        id="nested-padding-zero",
        title="nn.TransformerEncoder writes zeros into padded positions",
        affects=">=1.13",
        upstream="pytorch/pytorch#132136",
        clause=8,
        trigger="src_key_padding_mask in eval mode, if the batch is packed into a nested tensor",
        instead="padded positions come out as 0 (after a final norm, as the norm of 0)",
        applies=packs_what_is_hidden,
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "sample")
        ),
        devices=ON_BOTH,
        remedies=(NOT_NESTED, *off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
    ),
    Deviation(
        id="nested-float-padding",
        title="nn.TransformerEncoder reads a float padding mask as a bool mask in eval mode",
        affects=">=1.13",
        upstream="not found",
        clause=2,
        trigger="a float src_key_padding_mask with a value other than 0 and -inf (NaN, too), if the batch is packed"
        " into a nested tensor",
        instead="every position whose mask is not 0 is dropped, as a key and as a query, and the mask gets no gradient",
        applies=lambda call: is_nested(call) and does_more_than_hide(call.case, "src") and not is_unaligned(call),
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("float", "sample", "large"),
        ),
        devices=ON_BOTH,
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="nested-unaligned",
        title="With mask_check=False, or in a trace, the first positions of a sample are taken for the kept ones",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="a src_key_padding_mask that keeps a position after a padded one, with mask_check=False or in a trace"
        " (torch.jit.trace) that was made with padding that comes last",
        instead="the right number of positions is kept, but they are taken from the start of the sample, whichever the"
        " mask keeps",
        applies=is_unaligned,
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "left"),
            mask_check=False,
        ),
        devices=ON_BOTH,
        remedies=(
            on_native_paths(Remedy("Keep mask_check=True.", changed(mask_check=True), only=NATIVE)),
            NOT_NESTED,
            *off_the_fast_path(),
        ),
    ),
    Deviation(
        id="nested-truncates",
        title="nn.TransformerEncoder drops trailing positions that are padding in every sample",
        affects="<2.1",
        upstream="pytorch/pytorch#97111",
        clause=8,
        trigger="src_key_padding_mask in eval mode, if the batch is packed into a nested tensor and the last positions"
        " are padding in all samples",
        instead="the output is shorter than the input; in nn.Transformer memory masks of the right shape then raise",
        applies=truncates,
        change=truncate,
        pinned=Transformer(
            module="TransformerEncoder",
            S=3,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "trailing"),
            seed=1,
        ),
        stage="attention",
        remedies=(NOT_NESTED, sequences_first(), recorded()),
    ),
    Deviation(
        id="nested-prototype-warning",
        title="nn.TransformerEncoder warns that nested tensors are a prototype",
        affects=">=1.13",
        upstream="not found",
        clause=10,
        trigger="src_key_padding_mask in eval mode, if the batch is packed into a nested tensor",
        instead="a UserWarning, once per process, about an internal that the caller has not chosen",
        applies=is_nested,
        change=lambda computation, call: warning(computation, "nested tensors is in prototype stage"),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "none")
        ),
        devices=ON_BOTH,
        remedies=(
            Remedy(
                "Ignore the warning by warnings.filterwarnings.",
                changed(mode="silenced_prototype"),
                only=(EAGER, NO_PADDING),
            ),
            NOT_NESTED,
            *off_the_fast_path(),
        ),
    ),
    Deviation(
        id="nested-second-derivative",
        title="nn.TransformerEncoder with padding has no second derivative in eval mode",
        affects=">=2.1",
        upstream="not found",
        clause=3,
        trigger="a gradient by a parameter of the last layer, taken with create_graph=True and differentiated again, in"
        " eval mode with earlier layers frozen, if the batch is packed into a nested tensor",
        instead="RuntimeError: an internal error of nested tensors, which does not tell what is missing",
        applies=differentiates_twice,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "NestedTensorImpl doesn't support sizes|Expected both (self and other )?to be"
        ),
        pinned=Transformer(
            seed=4,
            mode="second_derivatives",
            autograd="one_parameter",
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
        stage="backward",
        remedies=tuple(
            replace(remedy, text=f"{remedy.text[:-1]}, and use the math backend alone.")
            for remedy in off_the_fast_path(mode="second_derivatives_math")
        ),
    ),
    Deviation(
        id="nested-all-padding",
        title="nn.TransformerEncoder raises if all samples are padding",
        affects=">=2.2",
        upstream="pytorch/pytorch#178677",
        clause=4,
        trigger="src_key_padding_mask hides every position of every sample, in eval mode, and the batch is packed into"
        " a nested tensor",
        instead="RuntimeError from to_padded_tensor; on CUDA AcceleratorError if only the attention is on its fast"
        " path",
        applies=lambda call: packs_nothing(call) and not packs_no_sample(call),
        change=lambda computation, call: raising(computation, *_NO_ELEMENTS),
        pinned=Transformer(
            module="TransformerEncoder", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "all")
        ),
        devices=ON_BOTH,
        stage="layer",
        remedies=(
            *off_the_fast_path(">=2.5"),
            FIRST_KEY_AND_SEQUENCES_FIRST,
            Remedy(
                "Give a bool mask in which every query sees the first key, and make the encoder with"
                " enable_nested_tensor=False.",
                lambda case: replace(
                    case,
                    src_key_padding_mask=replace(as_kind(SeeingFirst)(case.src_key_padding_mask), form="bool"),
                    enable_nested_tensor=False,
                ),
                only=(ENCODER, EXACT_ACTIVATION),
                cost=OTHER_NUMBERS,
            ),
        ),
    ),
    Deviation(
        id="nested-no-layer-norm",
        title="nn.TransformerEncoder raises in eval mode if a later layer is trained, but not its attention",
        affects="<2.1",
        upstream="pytorch/pytorch#94702",
        clause=3,
        trigger="src_key_padding_mask in eval mode with autograd, if the first layer is frozen and, of a later layer,"
        " only the attention is frozen; or a nested tensor, given to a stack with a final norm or as the input of a"
        " layer like this",
        instead="NotImplementedError: LayerNorm does not take the packed batch (1.13), or has no derivative for it"
        " (2.0)",
        applies=lambda call: (
            (norms_a_packed_batch(call) and not casts_for_packed_padding(call)) or norms_a_nested_tensor(call)
        ),
        change=lambda computation, call: raising(
            computation, "NotImplementedError", "Could not run 'aten::native_layer_norm"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="one_parameter",
            seed=4,
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
        stage="layer",
        remedies=(NOT_NESTED, sequences_first(), recorded(), FIRST_KEY_AND_SEQUENCES_FIRST),
    ),
    Deviation(
        id="nested-partly-frozen",
        title="nn.TransformerEncoder raises in eval mode if its first layer is frozen and a later one is not",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="src_key_padding_mask in eval mode with autograd, if the first layer is frozen and the attention of a"
        " later layer is not, or, from 2.0 on, any parameter of a layer between the first and the last",
        instead="AssertionError: the first layer alone decides that the batch is packed, and a later layer cannot take"
        " it",
        applies=unpacks_too_late,
        change=lambda computation, call: raising(
            computation, "AssertionError", "does not support NestedTensor outside of its fast path"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="last_layer",
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
            replace(NOT_NESTED, only=(*NOT_NESTED.only, OWN_DTYPE)),
            *off_the_fast_path(only=(NO_LARGE_ROW,)),
            FIRST_KEY_AND_SEQUENCES_FIRST,
        ),
    ),
    Deviation(
        id="nested-empty-batch",
        title="nn.TransformerEncoder raises for an empty batch with padding",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="N = 0 and a src_key_padding_mask, in eval mode, if the batch is packed into a nested tensor",
        instead="RuntimeError from the conversion to a nested tensor",
        applies=lambda call: packs_no_sample(call) and not packs_no_sample_fast(call),
        change=lambda computation, call: raising(computation, "RuntimeError", "stack expects a non-empty TensorList"),
        pinned=Transformer(module="TransformerEncoder", N=0, S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask()),
        devices=ON_BOTH,
        stage="stack",
        remedies=(NO_EMPTY_MASK, replace(NOT_NESTED, only=(*NOT_NESTED.only, NO_MASK_GRADIENT))),
    ),
    Deviation(
        id="nested-no-positions",
        title="nn.TransformerEncoder raises for sequences of length 0 with padding",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="S = 0 and a src_key_padding_mask, in eval mode with batch_first=True, if nested tensors are enabled",
        instead="IndexError from the check that padding is on the right",
        applies=looks_at_no_position,
        change=lambda computation, call: raising(computation, "IndexError", "index -1 out of range"),
        pinned=Transformer(module="TransformerEncoder", S=0, num_heads=2, head_dim=2, src_key_padding_mask=Mask()),
        devices=ON_BOTH,
        stage="stack",
        remedies=(NO_EMPTY_MASK,),
    ),
)
