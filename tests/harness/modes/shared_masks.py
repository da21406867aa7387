"""Modes that give one tensor as several arguments.

As several masks, as where the padding of the source is that of the memory, too; and as several sequences.
"""

from dataclasses import replace

from .mode import FUNCTIONAL, MODULES, SDPA, Mode

_SHARED = """\
def shared(*given, **options):
    masks = [value for value in options.values() if isinstance(value, torch.Tensor) and not value.requires_grad]

    def first(value):  # of the masks that are equal
        is_mask = any(value is mask for mask in masks)
        alike = (mask for mask in masks if is_mask and (mask.shape, mask.dtype) == (value.shape, value.dtype))
        return next((mask for mask in alike if torch.equal(mask, value)), value)

    return module(*given, **{name: first(value) for name, value in options.items()})
"""

# In this mode, masks of one recipe and one shape have equal contents (contents/arrays.py).
SHARED_MASKS = Mode("shared_masks", _SHARED, "shared", drops=True)

_ONE_TENSOR = """\
def of_one(*given, **options):
    shapes = {tensor.shape for tensor in given}
    return module(*(given[:1] * len(given) if len(shapes) == 1 else given), **options)
"""
_FIRST_AS_LAST = """\
def of_two(*given, **options):
    first, *others = given
    is_alike = others and others[-1].shape == first.shape
    return module(*((first, *others[:-1], first) if is_alike else given), **options)
"""

# In this mode, query, key and value of one shape have equal contents (contents/arrays.py).
ONE_TENSOR = Mode(
    "one_tensor",
    _ONE_TENSOR,
    "of_one",
    calls=(SDPA,),
    needs="nn.functional.scaled_dot_product_attention",
    differentiates=False,  # the gradient of one tensor is the sum of three
    everywhere=False,
    only_on="cpu",  # measured on CPU only
    drops=True,
    since="2.0",
)

# In this mode, the last of several sequences has the contents of the first (contents/arrays.py) if their shapes are
# equal: value is query, but not key; the memory is the target, or the source is.
FIRST_AS_LAST = replace(
    ONE_TENSOR,
    id="first_as_last",
    made=_FIRST_AS_LAST,
    called="of_two",
    calls=(MODULES, MODULES, FUNCTIONAL, SDPA),
    needs=None,
    is_rare=True,
    since="1.13",
)
SHARED_SEQUENCES = (ONE_TENSOR, FIRST_AS_LAST)
