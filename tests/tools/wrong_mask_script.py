"""The script of a wrong call. The specification wants an error that names the mask.

If torch may also accept the call, the script contains the result of the reference and compares it.
"""

from collections.abc import Sequence

import torch

from tests.harness.execution.setting import CPU, Setting
from tests.harness.judgement.outcomes import ACCEPTS, UNHELPFUL
from tests.harness.wrong_masks.outcome import name_of_mask, source
from tests.harness.wrong_masks.results import Prediction
from tests.harness.wrong_masks.table import WrongCall

from .python_text import Bracketed, Statement, Suite, listed, split_call
from .standalone import SCALED_DOT_PRODUCT, assembled, drawn, needs, needs_argument


def wrong_mask_script(call: WrongCall, setting: Setting = CPU, head: Sequence[str] = ()) -> str:
    """The text of the script. head: lines of comment for its beginning."""
    lines = [line for line in source(call, setting).replace("'", '"').splitlines() if not line.startswith("import")]
    *before, invocation = lines
    statement: Statement = split_call(invocation)
    if before and before[-1].startswith("with"):
        statement = Suite(before.pop(), (statement,))
    needs_a_name = UNHELPFUL not in call.conforming
    is_named = f're.search(r"{name_of_mask(call.argument)}", str(error), re.IGNORECASE)'
    refused = (
        'print("got", type(error).__name__, error)',
        f"sys.exit(not {is_named})" if needs_a_name else "sys.exit(0)",
    )
    asked = "that names the mask: " * needs_a_name
    blocks = (
        *((statement,) for statement in _needs(call, setting)),
        drawn() if ACCEPTS in call.conforming else (),
        (*before, f'print("expected an error {asked}the right shape is {call.right_shape}")'),
        (Suite("try:", (statement,)), Suite("except Exception as error:", refused)),
        _accepted(call, setting, before),
    )
    return assembled(blocks, setting, head)


def _accepted(call, setting, before):
    """Statements that judge a result. before: the statements that make the inputs."""
    if ACCEPTS not in call.conforming or setting.subject:
        return ('print("got no error")', f"sys.exit({int(ACCEPTS not in call.conforming)})")
    names = {"torch": torch}
    exec("\n".join(before), names)
    predicted = Prediction(call, names)
    *_, allowed = predicted.bounds("output")
    kind = [f"dtype=torch.{call.fault.inputs}", *[f'device="{setting.device}"'] * (setting.device != "cpu")]
    output = "result" if call.module.startswith("Transformer") else "result[0]"
    return (
        Bracketed("expected = torch.tensor(", (listed(predicted.exact["output"]), *kind)),
        f"error = ({output} - expected).abs().max().item()",
        'print("got a result that is off by", error)',
        f"sys.exit(not error <= {allowed:.3g})",
    )


def _needs(call, setting):
    """Generates statements that end the script if the release lacks the function or an argument."""
    if setting.subject:
        return
    called = f"torch.nn.{call.module}.forward" if call.callee.made else f"torch.nn.functional.{call.module}"
    if called == SCALED_DOT_PRODUCT:
        yield needs("torch.nn.functional", call.module)
    elif call.fault.hint:
        yield needs_argument(called, call.hint)
    if call.fault.bias:
        yield needs("torch.nn", "attention")
        yield "import torch.nn.attention.bias"
