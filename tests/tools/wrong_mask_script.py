"""The script of a row of the table of wrong masks: an error that names the mask is what is specified.

Where the row may be accepted as well, the script has the reference's result, and compares.
"""

import torch

from tests.harness.execution.setting import CPU
from tests.harness.wrong_masks.results import Prediction
from tests.harness.wrong_masks.sequences import WrongSequence
from tests.harness.wrong_masks.table import ACCEPTS, name_of_mask, source

from .python_text import Bracketed, Suite, listed, split_call
from .standalone import SCALED_DOT_PRODUCT, assembled, drawn, needs, needs_argument


def wrong_mask_script(call, setting=CPU, head=()):
    """The script of a row (table.WrongCall). head: lines of comment that it begins with."""
    lines = [line for line in source(call, setting).replace("'", '"').splitlines() if not line.startswith("import")]
    *before, invocation = lines
    statement = split_call(invocation)
    if before and before[-1].startswith("with"):
        statement = Suite(before.pop(), (statement,))
    is_of_sequences = isinstance(call, WrongSequence)  # of which an error may say anything
    is_named = f're.search(r"{name_of_mask(call.argument)}", str(error), re.IGNORECASE)'
    refused = (
        'print("got", type(error).__name__, error)',
        "sys.exit(0)" if is_of_sequences else f"sys.exit(not {is_named})",
    )
    asked = "that names the mask: " * (not is_of_sequences)
    blocks = (
        *((statement,) for statement in _needs(call, setting)),
        drawn() if ACCEPTS in call.conforming else (),
        (*before, f'print("expected an error {asked}the right shape is {call.right_shape}")'),
        (Suite("try:", (statement,)), Suite("except Exception as error:", refused)),
        _accepted(call, setting, before),
    )
    return assembled(blocks, setting, head)


def _accepted(call, setting, before):
    """Statements that judge a result. before: those that make the inputs."""
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
    """What not every release has."""
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
