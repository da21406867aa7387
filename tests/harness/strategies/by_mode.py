"""Calls as each mode can be asked of them."""

from dataclasses import replace

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD, UNRECORDED, drops, masks_of
from ..cases.masks import Mask
from ..contents.packing import BESIDE, NESTED
from ..modes.modes import FUNCTIONAL, SDPA
from ..modes.modes import MODULES as ANY_MODULE
from .basics import WITHOUT_GRADIENT, evenly, mixed, one_of
from .modules import LAYERS, any_cases, cases_of, module_cases
from .multi_head import multi_head_cases
from .sdpa import scaled_dot_product_cases


def cases_in(release, mode):
    """Calls that can be made in the mode."""
    if mode.family == "causal_upper_left":
        return scaled_dot_product_cases(release).map(lambda case: _causally(case, mode))
    if mode.id == "jagged_batch":
        return _ragged_batches(release, mode)
    if mode.family == NESTED:
        return _nested_cases(release, mode).filter(_has_something)
    kinds = {ANY_MODULE: _modules_in(release, mode), FUNCTIONAL: multi_head_cases(release, functional=True)}
    if release.has_scaled_dot_product_attention:
        kinds[SDPA] = scaled_dot_product_cases(release)

    cases = mixed(*(kinds[kind] for kind in mode.calls if kind in kinds)).map(lambda case: adapted(case, mode))
    if mode.is_forward:
        cases = st.tuples(cases, evenly((False, True, True, True))).map(_perhaps_in_training)
    return cases.filter(lambda case: suits(case, mode))


def adapted(case, mode):
    """The case as the mode can be asked of it."""
    is_allowed = mode.differentiates or case.autograd in WITHOUT_GRADIENT
    autograd = case.autograd if is_allowed else "no_grad"
    case = replace(case, mode=mode.id, autograd=autograd)
    if drops(case) and not mode.drops:
        case = replace(case, dropout=0.0)
    if mode.is_forward:
        case = _differentiating(case)
    is_empty_under_vmap = mode.family == "vmap" and not _has_something(case)  # its weights have the mask's dtype
    if not mode.converts_masks or is_empty_under_vmap:
        case = replace(case, **{name: replace(mask, dtype=None) for name, mask in masks_of(case).items()})
    if mode.id == "scripted" and hasattr(case, "fast_path"):  # it does not see the switch
        case = replace(case, fast_path=True)
    if mode.id == "batched_gradients" and autograd in AUTOGRAD[-2:] and hasattr(case, "num_layers"):
        case = replace(case, autograd="grad")  # of the nested tensors between layers there are no batches
    if mode.compiles and getattr(case, "num_layers", 1) > 2:
        case = replace(case, num_layers=2)
    return _lowered(case, "float32") if mode.lowers else case


def suits(case, mode):
    """True if the mode is asked of the case: neither of one that takes too long, nor where nothing is to be seen."""
    if (mode.is_for_small and not _is_small(case)) or (mode.id == "vmap_of_masks" and not masks_of(case)):
        return False
    if not (mode.compiles or mode.is_for_small):
        return True
    return _has_something(case) and bool(not mode.compiles or masks_of(case) or getattr(case, "is_causal", False))


def _modules_in(release, mode):
    """Calls of modules, of which a mode may ask more of some."""
    modules = module_cases(release)
    if mode.compiles:  # stacks are more of the same, and take long, as does the way back, which inference has not
        layers = (module_cases(release, LAYERS, (inferring,)) for inferring in (False, True, True, True))
        return mixed(*layers, modules)
    if mode.id == "fake":  # where native paths tell sizes of their own
        return mixed(module_cases(release, LAYERS, (True,)), modules)
    return modules


def _ragged_batches(release, mode):
    """Calls of scaled_dot_product_attention that have samples, seldom with a mask, which the mode cannot have."""
    cases = scaled_dot_product_cases(release).filter(lambda case: case.batch)
    cases = cases.map(lambda case: replace(case, mode=mode.id, kv_heads=None, dropout=0.0))
    return mixed(*[cases.map(_without_mask)] * 7, cases)


# Where the samples end: nowhere, where they like, one at once, all alike.
_ENDS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "sample", "trailing", "all")))


_ENDS_OF_KEYS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "slice", "all")))


_PACKED = ("MultiheadAttention", "MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder")


@st.composite
def _nested_cases(draw, release, mode):
    """Calls whose samples a mode can pack into a nested tensor, rarely with a mask besides, which none takes."""
    modules = (*_PACKED, *[SDPA] * release.has_scaled_dot_product_attention)
    if mode.id == "nested_jagged":  # which no module takes
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
            if case.activation == "silu":  # which nested tensors do not have before 2.1
                case = replace(case, activation="gelu")
        return replace(case, mode=mode.id, **masks, **none if without else {})
    case = draw(scaled_dot_product_cases(release).filter(lambda case: len(case.batch) < 3))
    padding = None if case.is_causal or not without else one_of(draw, *_ENDS_OF_KEYS)
    mask = padding if without or case.is_causal else Mask("bool", "causal")
    mask_batch = (case.batch[0], *[1] * (len(case.batch) - 1)) if padding else ()
    changes = {"attn_mask": mask, "mask_batch": mask_batch, "broadcast": "L" if padding else ""}
    return replace(case, mode=mode.id, dropout=0.0, **changes)


def _causally(case, mode):
    """The case with a causal mask as the mode aligns it, which can then be a bias."""
    is_hinted = mode.id == "causal_upper_left" or case.L == case.S
    mask = None if is_hinted else Mask("bool", "lower_right")
    return replace(case, mode=mode.id, is_causal=is_hinted, attn_mask=mask, mask_batch=(), broadcast="", dropout=0.0)


def _without_mask(case):
    return replace(case, attn_mask=None, mask_batch=(), broadcast="")


def _differentiating(case):
    """The case with something to differentiate for: forwards that is done in inference, too."""
    if case.autograd not in WITHOUT_GRADIENT:
        return case
    return _lowered(replace(case, autograd="grad" if case.autograd == "no_grad" else "inputs"), case.dtype)


def _perhaps_in_training(drawn):
    """The case, in training if that is drawn: a native path takes no tangent, and shows nothing but that."""
    case, in_training = drawn
    return replace(case, training=True, dropout=0.0) if in_training and hasattr(case, "training") else case


def _is_small(case):
    """True if a jacobian of the whole is quick to make."""
    sizes = (getattr(case, name, 1) for name in ("L", "S", "T", "E"))
    return max(sizes) <= 16


def _has_something(case):
    """True if no size is 0."""
    return 0 not in (getattr(case, name, 1) for name in ("N", "L", "S", "T")) and 0 not in getattr(case, "batch", ())


def low_precision_cases(release, dtype):
    """Calls of any of them in a low precision, more of the function, which costs least."""
    cases = [any_cases(release)] * 2
    if release.has_scaled_dot_product_attention and not release.adopted:
        cases.append(scaled_dot_product_cases(release))
    return mixed(*cases).map(lambda case: _lowered(case, dtype))


def _lowered(case, dtype):
    """The case in this dtype, without an activation whose derivative jumps: rounding could take it across."""
    has_kink = getattr(case, "activation", "") in ("relu", "gelu_tanh") and case.autograd not in UNRECORDED[:-1]
    return replace(case, dtype=dtype, **{"activation": "gelu"} if has_kink else {})
