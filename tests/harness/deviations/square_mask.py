"""nn.Transformer.generate_square_subsequent_mask under another default dtype or device."""

from dataclasses import replace

from ..cases.case import SquareSubsequentMask
from .entry import Deviation
from .remedies import Remedy, upgrade

ENTRIES = (
    Deviation(
        id="square-mask-default-dtype",
        title="nn.Transformer.generate_square_subsequent_mask ignores the default dtype",
        affects=">=2.1,<2.6",
        upstream="pytorch/pytorch#137186",
        clause=6,
        trigger="no dtype is given, and the default dtype is not float32",
        instead="the mask is float32",
        applies=lambda call: call.case.given_dtype is None and call.case.dtype != "float32",
        change=lambda computation, call: replace(computation, dtype="float32"),
        pinned=SquareSubsequentMask(),
        remedies=(
            Remedy("Give torch.get_default_dtype() as dtype.", lambda case: replace(case, given_dtype=case.dtype)),
            upgrade("2.6"),
        ),
    ),
    Deviation(
        id="square-mask-default-device",
        title="nn.Transformer.generate_square_subsequent_mask ignores the default device",
        affects=">=2.0,<2.6",
        upstream="pytorch/pytorch#137186",
        clause=6,
        trigger="no device is given, and the default device is not the CPU",
        instead="the mask is on the CPU",
        applies=lambda call: call.case.given_device is None and call.case.default_device not in (None, "cpu"),
        change=lambda computation, call: replace(computation, arguments={**computation.arguments, "device": "cpu"}),
        pinned=SquareSubsequentMask(dtype="float32", default_device="meta"),
        remedies=(
            Remedy(
                "Give the name of the default device as device.",
                lambda case: replace(case, given_device=case.default_device),
            ),
            upgrade("2.6"),
        ),
    ),
)
