"""A mode that gives one tensor as several masks, as where the padding of the source is that of the memory, too."""

from .mode import Mode

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
