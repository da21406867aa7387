"""The contents of a call that somebody made, in the place of contents drawn from a seed."""

from collections.abc import Callable, Mapping
from itertools import count

import numpy as np

from reference.flex import BlockMask

_NUMBERS = count(2**40)  # far from the seeds of drawn cases


class GivenContents(int):
    """A seed of a case that carries the arrays of the call; each instance is another number.

    A case with such a seed has these contents in arrays.py, and no tensor of it requires a gradient.
    """

    inputs: Mapping[str, np.ndarray]  # {name: array} as `arrays.inputs` returns them
    masks: Mapping[str, np.ndarray]  # {name: array} as `arrays.mask_arrays` returns them
    parameters: Mapping[str, np.ndarray]  # {name in the state_dict: array}
    trained: str  # the first parameter that autograd records, if autograd="one_parameter"
    blocks: BlockMask | None  # of a call of flex_attention, without mask_mod
    score_mod: (
        Callable[[np.ndarray], np.ndarray] | None
    )  # likewise, with an attribute `hidden` as reference.flex.ScoreMod

    def __new__(
        cls,
        inputs: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        parameters: Mapping[str, np.ndarray],
        trained: str = "",
        blocks: BlockMask | None = None,
        score_mod: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "GivenContents":
        """A new number with these contents."""
        seed = super().__new__(cls, next(_NUMBERS))
        seed.inputs, seed.masks, seed.parameters, seed.trained = inputs, masks, parameters, trained
        seed.blocks, seed.score_mod = blocks, score_mod
        return seed
