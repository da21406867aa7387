"""The script of a call of nn.Transformer.generate_square_subsequent_mask: the call, and a check of the mask."""

from collections.abc import Sequence

from tests.harness.cases.case import SquareSubsequentMask
from tests.harness.cases.square_mask import statements
from tests.harness.execution.setting import CPU, Setting
from tests.harness.expectation.specification import specification

from .python_text import Bracketed, listed
from .standalone import assembled, needs, needs_argument

_FUNCTION = "torch.nn.Transformer.generate_square_subsequent_mask"


def square_mask_script(case: SquareSubsequentMask, setting: Setting = CPU, head: Sequence[str] = ()) -> str:
    """The text of the script. head: lines of comment for its beginning.

    The check creates no tensor, because the default dtype and device of the call are still set.
    """
    computation = specification(case)
    dtype, device = computation.dtype, computation.device
    lacking = (
        *[needs("torch", "set_default_device")] * (case.default_device is not None),
        *[needs_argument(_FUNCTION, "dtype")] * (case.given_dtype is not None),
    )
    looked_at = (
        f'print("expected torch.{dtype} on {device}, got", mask.dtype, "on", mask.device.type)',
        f'wrong = (mask.dtype, mask.device.type) != (torch.{dtype}, "{device}")',
        f"wrong = wrong or mask.shape != ({case.sz}, {case.sz})",
    )
    blocks = (*((statement,) for statement in lacking), tuple(statements(case)), looked_at, _numbers(computation))
    return assembled((*blocks, ("sys.exit(wrong)",)), setting, head)


def _numbers(computation):
    """Statements that compare the numbers; none for a tensor on the meta device, which holds no numbers."""
    if computation.device == "meta":
        return ()
    expected = computation()["output"]
    literal = listed(expected, "expected = ") if expected.size else Bracketed("expected = [", (), "]")
    got = 'got = mask.tolist() if mask.device.type != "meta" else None'
    return (literal, got, 'print("expected", expected)', 'print("got", got)', "wrong = wrong or got != expected")
