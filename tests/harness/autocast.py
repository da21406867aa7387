"""What torch.autocast on a CPU makes of a call: who raises, what a float mask becomes, in which dtype it comes back."""

import numpy as np

from .arrays import mask_arrays
from .behaviours import raising, with_masks
from .modes import computed_in
from .precision import PRECISIONS
from .situations import is_cast, is_empty
from .triggers import is_nested, misses_the_layers_biases, packs_nothing


def overflowing_masks(call):
    """{name: where it does}: the float masks that hold a number too large for the low precision."""
    if not is_cast(call.case):
        return {}
    limit = PRECISIONS[computed_in(call.case)].max
    masks = {name: array for name, array in mask_arrays(call.case).items() if array.dtype != bool}
    beyond = {name: np.isfinite(array) & (np.abs(array) > limit) for name, array in masks.items()}
    return {name: where for name, where in beyond.items() if where.any()}


def overflow(computation, call):
    """The masks as they are added: infinite where they overflow. A cast has a derivative there, too."""
    given = computation.arguments
    beyond = overflowing_masks(call).items()
    return with_masks(
        computation,
        {name: given[name] + np.where(where, np.copysign(np.inf, given[name].real), 0) for name, where in beyond},
    )


def raises_when_packed(call):
    """Whether nn.TransformerEncoder packs something into a nested tensor, which its native path then cannot compute."""
    return is_cast(call.case) and is_nested(call) and not packs_nothing(call) and not misses_the_layers_biases(call)


def raises_on_the_native_layer(call):
    """Whether the native path of nn.TransformerEncoderLayer has something to compute."""
    return is_cast(call.case) and not is_nested(call) and bool(_busy_native_layers(call))


def _busy_native_layers(call):
    return [block for block in call.blocks("native_layer") if not is_empty(call.case, block)]


def raise_of_dtypes(computation, call):
    """What is multiplied is of two dtypes."""
    return raising(computation, "RuntimeError", "expected scalar type|must have the same dtype")


def returns_what_is_native(call):
    """Whether the native path of nn.TransformerEncoderLayer has served a layer of what the call returns."""
    case = call.case
    return is_cast(case) and not getattr(case, "has_decoder", False) and bool(_busy_native_layers(call))
