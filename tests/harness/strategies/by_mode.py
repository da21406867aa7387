"""Calls that each mode can make."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD, LEARNED, UNRECORDED, Case, MultiHead, ScaledDotProduct, Transformer, drops, masks_of
from ..cases.masks import Mask
from ..contents.arrays import nonfinite_positions
from ..contents.packing import BESIDE, NESTED_STRIDED, packs
from ..deviations.kernels import kernels
from ..execution.release import Release
from ..modes.mode import FLEX, FUNCTIONAL, SDPA, Mode
from ..modes.mode import MODULES as ANY_MODULE
from ..modes.modes import BY_ID
from ..modes.reading import COMPILED_READING
from ..modes.shared_masks import SHARED_MASKS, SHARED_SEQUENCES
from ..modes.written import FORMS, is_written
from ..path_names import SDPA_FLASH
from .basics import WITHOUT_GRADIENT, evenly, mixed, one_of
from .flex import flex_attention_cases
from .modules import LAYERS, any_cases, cases_of, module_cases
from .multi_head import multi_head_cases
from .sdpa import scaled_dot_product_cases
from .shared import is_alike, shared
from .written import as_written, written_cases


def cases_in(release: Release, mode: Mode) -> st.SearchStrategy:
    """Calls that can be made in the mode, a few with NaN or inf in hidden positions."""
    cases = with_a_few_nonfinite(_finite_cases_in(release, mode), release)
    return cases.filter(lambda case: is_alike(case, release)) if mode.is_shared else cases


def _finite_cases_in(release, mode):
    if mode.family == "causal_upper_left":
        return scaled_dot_product_cases(release).map(lambda case: adapted(case, mode))
    if mode.id == "jagged_batch":
        return _ragged_batches(release, mode)
    if mode.family == NESTED_STRIDED:
        return _nested_cases(release, mode).filter(_has_something)
    if mode.id == "layers_apart":
        return mixed(*(cases_of(release, module) for module in _STACKS)).map(lambda case: _apart(case, mode))
    if mode is SHARED_MASKS:
        return mixed(*(cases_of(release, module) for module in _DECODERS)).map(lambda case: _sharing(case, mode))
    kinds = {ANY_MODULE: _modules_in(release, mode), FUNCTIONAL: multi_head_cases(release, functional=True)}
    if release.has_scaled_dot_product_attention:
        kinds[SDPA] = written_cases(release, mode) if mode.id in FORMS else scaled_dot_product_cases(release)
    if mode.builds and mode.differentiates and SDPA in kinds:  # these calls alone have gradients (is_differentiated)
        kinds[SDPA] = mixed(kinds[SDPA], kinds[SDPA].map(lambda case: replace(case, autograd="inputs")))
    if release.has_flex_attention:
        kinds[FLEX] = flex_attention_cases(release, inference=not mode.differentiates)

    cases = mixed(*(kinds[kind] for kind in mode.calls if kind in kinds)).map(lambda case: adapted(case, mode))
    if mode.id == COMPILED_READING:  # of the math backend, inductor can build some calls and not others
        cases = cases.map(_for_the_fused_kernel).filter(lambda case: SDPA_FLASH in kernels(case, release))
    if mode.is_forward:
        cases = st.tuples(cases, evenly((False, True, True, True))).map(_perhaps_in_training)
    return cases.filter(lambda case: suits(case, mode))


def adapted(case: Case, mode: Mode) -> Case:
    """The case in this mode, without settings that the mode does not support."""
    if mode.family == "causal_upper_left":
        return _causally(case, mode)
    is_allowed = mode.is_differentiated(case) or case.autograd in WITHOUT_GRADIENT
    autograd = case.autograd if is_allowed else "no_grad"
    changed: Any = replace(case, mode=mode.id, autograd=autograd)  # the other fields depend on its kind
    if drops(changed) and not mode.drops:
        changed = replace(changed, dropout=0.0)
    if mode.family == "traced" and changed.module == "Transformer":
        # with autograd, TorchScript runs the target's first attention before the encoder: each drops what others would
        changed = replace(changed, dropout=0.0)
    if mode.is_forward or mode.is_second_order or mode.id == "per_sample_gradients":
        changed = _differentiating(changed)
    if mode.called == "differentiated" or mode.is_second_order:
        changed = _learning_masks(changed)
    if mode.id == "per_sample_gradients" and changed.has_training_mode:  # in eval, encoders look at a mapped padding
        changed = replace(changed, training=True, dropout=0.0)
    if mode.id == "per_sample_gradients" and changed.layout in ("transposed", "stepped"):
        changed = replace(changed, layout="sliced")  # the gradients are those of stacked copies, on the fused kernel
    if mode.id == "checkpoint_reentrant":
        changed = _through_arguments(changed)
    is_empty_under_vmap = mode.family == "vmap" and not _has_something(changed)  # empty weights take the mask's dtype
    # NaN in the encoder raises before a decoder refuses such a mask
    is_ordered = not (mode.quantizes and changed.module == "Transformer")
    if not mode.converts_masks or is_empty_under_vmap or not is_ordered:
        changed = replace(changed, **{name: replace(mask, dtype=None) for name, mask in masks_of(changed).items()})
    if mode.id == "traced_causal":  # it sees what a mask hides, whose gradients overflow in float32
        changed = replace(changed, garbage=False)
    if mode in SHARED_SEQUENCES:
        changed = _of_one_shape(changed)
    if mode.id == "scripted" and changed.has_fast_path:  # TorchScript ignores the switch
        changed = replace(changed, fast_path=True)
    if mode.id == "batched_gradients" and autograd in AUTOGRAD[-2:] and changed.has_layers:
        changed = replace(changed, autograd="grad")  # the nested tensors between layers cannot be batched
    if mode.id in FORMS:
        changed = as_written(changed, mode)
    if mode.compiles and changed.num_layers > 2:
        changed = replace(changed, num_layers=2)
    if mode.is_shared:
        changed = shared(changed, mode)
    if mode.quantizes or mode.packages:
        return replace(changed, dtype="float32")
    return lowered(changed, "float32") if mode.lowers else changed


def _learning_masks(case):
    """The call with float masks, in half of the calls that would differentiate by them: bool masks are more common."""
    if case.seed % 2 == 0 or case.autograd not in ("grad", "mask", LEARNED):
        return case
    return replace(case, **{name: replace(mask, form="float") for name, mask in masks_of(case).items()})


def _through_arguments(case):
    """The call with an argument that requires a gradient and reaches the result, if anything does, as a reentrant
    checkpoint asks for. It runs without autograd, and then again with it: in eval on another path."""
    autograd = "inputs" if case.autograd in ("inputs", "one_input") else "grad"
    changes = {} if case.autograd in WITHOUT_GRADIENT else {"autograd": autograd}
    return replace(case, **changes, **({"training": True} if case.has_training_mode else {}))


def suits(case: Case, mode: Mode) -> bool:
    """True if the call takes little time in this mode and can show an error: a compiled call needs a mask, say.

    Attention written by hand needs none, as rewriting may spoil its key.
    """
    if (mode.is_for_small and not _is_small(case)) or (mode.id == "vmap_of_masks" and not masks_of(case)):
        return False
    if mode.packages and not case.has_parameters and not _has_samples(case):  # not measured there
        return False
    if not (mode.compiles or mode.is_for_small):
        return True
    if mode.id == COMPILED_READING and not masks_of(case):
        return False
    if mode.builds and not case.has_parameters and case.D == 1 and case.layout == "transposed":
        return False  # built for any size, the call spoils the memory of the process in 2.12
    return _has_something(case) and bool(not mode.compiles or masks_of(case) or case.is_causal or mode.id in FORMS)


def _modules_in(release, mode):
    """Calls of modules, with more layers in some modes."""
    # all layers attend by nn.MultiheadAttention, which has more options than they have
    modules = mixed(*[module_cases(release)] * 2, module_cases(release, ("MultiheadAttention",)))
    if mode.compiles:  # stacks repeat their layers, and are slow; so is the backward pass, which inference avoids
        layers = (module_cases(release, LAYERS, (inferring,)) for inferring in (False, True, True, True))
        return mixed(*layers, modules)
    if mode.id == "fake":  # native operators have shape functions of their own
        return mixed(module_cases(release, LAYERS, (True,)), modules)
    return modules


def _ragged_batches(release, mode):
    """Batched calls of scaled_dot_product_attention; few have a mask, since the mode supports none."""
    cases = scaled_dot_product_cases(release).filter(lambda case: case.batch)
    cases = cases.map(lambda case: replace(case, mode=mode.id, kv_heads=None, dropout=0.0))
    return mixed(*[cases.map(_without_mask)] * 7, cases)


# Padding behind each sample: none, of any length, over one sample, or equal for all samples.
_ENDS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "sample", "trailing", "all")))
_ENDS_OF_KEYS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "slice", "all")))
_PACKED = ("MultiheadAttention", "MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder")


@st.composite
def _nested_cases(draw: st.DrawFn, release: Release, mode: Mode) -> MultiHead | Transformer | ScaledDotProduct:
    """Calls with samples to pack into a nested tensor; few have another mask, since nested tensors support none."""
    modules = (*_PACKED, *[SDPA] * release.has_scaled_dot_product_attention)
    if SDPA in mode.calls and ANY_MODULE not in mode.calls:
        modules = (SDPA,)
    elif mode.id == "nested_jagged":  # no module takes a jagged nested tensor
        modules = (*[SDPA] * 15, *_PACKED)
    if mode.id == BESIDE:
        modules = _PACKED
    module, without = one_of(draw, *modules), one_of(draw, *[True] * 7, False)
    if module != SDPA:
        case, padding = draw(cases_of(release, module, inference=True)), one_of(draw, *_ENDS[mode.id == BESIDE :])
        if module == "MultiheadAttention":
            masks, none = {"key_padding_mask": padding}, {"attn_mask": None, "is_causal": False}
        else:
            masks, none = {"src_key_padding_mask": padding}, {"src_mask": None, "src_is_causal": None}
            if case.activation == "silu":  # nested tensors have no silu before 2.1
                case = replace(case, activation="gelu")
        opened: dict[str, Any] = {"training": False, "batched": True, "batch_first": True}  # as packing needs
        return replace(case, mode=mode.id, **opened, **masks, **none if without else {})
    case = draw(scaled_dot_product_cases(release).filter(_has_samples))
    padding = None if case.is_causal or not without else one_of(draw, *_ENDS_OF_KEYS)
    mask = padding if without or case.is_causal else Mask("bool", "causal")
    mask_batch = (case.batch[0], *[1] * (len(case.batch) - 1)) if padding else ()
    changes: dict[str, Any] = {"attn_mask": mask, "mask_batch": mask_batch, "broadcast": "L" if padding else ""}
    return replace(case, mode=mode.id, dropout=0.0, **changes)


def _has_samples(case):
    """True if the inputs of scaled_dot_product_attention are samples, or samples of heads."""
    return len(case.batch) == 2 or (len(case.batch) == 1 and case.kv_heads is None)


_STACKS = ("TransformerEncoder", "TransformerDecoder", "Transformer")
_DECODERS = ("TransformerDecoderLayer", "TransformerDecoder", "Transformer", "Transformer")


def _apart(case, mode):
    """The case in this mode, with two layers or more, with biases and without dropout.

    Autograd closes all fast paths, so that a layer takes the same path in train mode and in eval.
    """
    layers = max(case.num_layers, 1 if case.module == "Transformer" else 2)  # it has those of two stacks
    changes = {"mode": mode.id, "autograd": "grad", "dropout": 0.0, "bias": True, "num_layers": layers}
    return replace(_differentiating(case), **changes)


def _sharing(case, mode):
    """The case in this mode, with one length, and with one mask of each kind for the target and what it attends to."""
    mask = case.tgt_mask or case.memory_mask
    padding = case.memory_key_padding_mask or case.tgt_key_padding_mask
    masks = {"tgt_mask": mask, "memory_mask": mask, "memory_key_padding_mask": padding}
    masks |= {"src_key_padding_mask": padding} if case.has_encoder else {"tgt_key_padding_mask": padding}
    hints = {name: None for name in case.hints if name != "src_is_causal"}
    if case.has_encoder and case.seed % 2:  # the source has the masks of the target
        masks |= {"src_mask": mask, "tgt_key_padding_mask": padding}
        hints["src_is_causal"] = None
    return replace(case, mode=mode.id, S=case.T, **masks, **hints)


def _of_one_shape(case):
    """The case with sequences of one shape, so that one tensor can be several. Garbage of a key would be a query's."""
    if isinstance(case, ScaledDotProduct):
        return replace(case, S=case.L, Dv=case.D, kv_heads=None, garbage=False)
    if case.has_layers:
        return replace(case, S=case.T, garbage=False) if case.has_decoder else case
    attention = case.attention if case.attention == "self" else "distinct"
    return replace(case, S=case.L, attention=attention, vdim=None, garbage=False)


def _for_the_fused_kernel(case):
    """The call with the sizes that the CPU's fused kernel takes."""
    case = replace(case, Dv=case.D)
    if len(case.batch) == 2:
        return case
    mask = case.attn_mask and replace(case.attn_mask, over_heads=False, over_samples=False)
    return replace(case, batch=(2, 2), mask_batch=(), kv_heads=None, attn_mask=mask)


def _causally(case, mode):
    """The case with a causal mask in the alignment of the mode, so that it can be given as a CausalBias."""
    is_hinted = mode.id == "causal_upper_left" or case.L == case.S
    mask = None if is_hinted else Mask("bool", "lower_right")
    return replace(case, mode=mode.id, is_causal=is_hinted, attn_mask=mask, mask_batch=(), broadcast="")


def _without_mask(case):
    """The call of scaled_dot_product_attention without its mask."""
    return replace(case, attn_mask=None, mask_batch=(), broadcast="")


def _differentiating(case):
    """The case with an input to differentiate for. Forward mode differentiates under no_grad, too."""
    if case.autograd not in WITHOUT_GRADIENT:
        return case
    return lowered(replace(case, autograd="grad" if case.autograd == "no_grad" else "inputs"), case.dtype)


def _perhaps_in_training(drawn):
    """The case, in training mode if so drawn: native paths take no tangent, so that eval shows nothing else."""
    case, in_training = drawn
    return replace(case, training=True, dropout=0.0) if in_training and case.has_training_mode else case


def _is_small(case):
    """True if the full Jacobian takes little time."""
    return max(*case.lengths, getattr(case, "E", 1)) <= 16


def _has_something(case):
    """True if no size is 0."""
    sizes = (getattr(case, name, 1) for name in ("N", "D", "Dv"))
    return 0 not in (*sizes, *case.lengths, *case.batch)


def low_precision_cases(release: Release, dtype: str) -> st.SearchStrategy:
    """Calls in a low precision; many of scaled_dot_product_attention, which is the fastest.

    A few have NaN or inf in hidden positions.
    """
    cases = [any_cases(release)] * 2
    if release.has_scaled_dot_product_attention and not release.adopted:
        cases.append(scaled_dot_product_cases(release))
    return with_a_few_nonfinite(mixed(*cases).map(lambda case: lowered(case, dtype)), release)


NONFINITE = ("nan", "nan", "inf")


def with_a_few_nonfinite(cases: st.SearchStrategy, release: Release) -> st.SearchStrategy:
    """The calls, of which a few get NaN or inf in positions that are hidden from every query.

    Only where the ledger has been measured: on a CPU, for torch's own modules.
    """
    if release.device_type != "cpu" or release.adopted:
        return cases
    return st.tuples(cases, evenly((*[""] * 15, *NONFINITE))).map(_perhaps_nonfinite)


def _perhaps_nonfinite(drawn):
    """The case with the drawn kind of contents, if torch is given a position that is hidden from every query."""
    case, nonfinite = drawn
    if case.is_flex:  # its own strategy draws them
        return case
    spoiled = replace(case, garbage=False, nonfinite=nonfinite, dropout=0.0)
    # the formula lets hidden NaN through
    is_taken = not (packs(case) or is_written(case) or BY_ID[case.mode] in SHARED_SEQUENCES)
    return spoiled if nonfinite and is_taken and nonfinite_positions(spoiled) else case


def lowered(case: Case, dtype: str) -> Case:
    """The case in this dtype, without relu and gelu_tanh in a backward pass: rounding can cross a kink."""
    has_kink = case.activation in ("relu", "gelu_tanh") and case.autograd not in UNRECORDED[:-1]
    changes: Any = {"activation": "gelu"} if has_kink else {}
    return replace(case, dtype=dtype, **changes)
