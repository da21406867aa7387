"""Calls of nn.Transformer.generate_square_subsequent_mask."""

from hypothesis import strategies as st

from ..cases.case import SquareSubsequentMask
from ..cases.dtypes import LOW
from ..cases.square_mask import DEVICES
from ..execution.release import Release
from .basics import EDGES, one_of

SIZES_OF_SQUARES = (0, 1, 2, 3, 5, *EDGES, 257, 1025)


@st.composite
def square_mask_cases(draw: st.DrawFn, release: Release) -> SquareSubsequentMask:
    """Calls of nn.Transformer.generate_square_subsequent_mask, with and without each argument and each default."""
    dtypes = (*release.dtypes, *LOW)
    devices = tuple(device for device in DEVICES if device in ("cpu", "meta", release.device_type))
    default_device = one_of(draw, None, "meta") if release.has_default_device else None
    return SquareSubsequentMask(
        dtype=one_of(draw, *dtypes),
        sz=one_of(draw, *SIZES_OF_SQUARES),
        given_dtype=one_of(draw, None, None, *dtypes) if release.has_dtype_of_square_mask else None,
        given_device=one_of(draw, None, None, *devices),
        default_device=default_device,
        in_context=default_device is not None and one_of(draw, False, True),
        of_instance=one_of(draw, False, True),
        after_writing=one_of(draw, False, True),
    )
