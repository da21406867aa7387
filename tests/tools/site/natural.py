"""The code that the page shows for an entry: an example by hand, or the pinned case without numbers."""

import ast

from tests.harness.contents.arrays import inputs
from tests.harness.deviations.entry import Deviation
from tests.harness.execution.setting import Setting

from ..case_script import call_lines
from .examples import EXAMPLES

_MOST = 30  # code of more lines is left to the script


def natural_code(entry: Deviation) -> str:
    """The call of the pinned case of an entry; inputs are random, and the parameters are those that torch draws.

    Empty if it is too long to be read.
    """
    if entry.id in EXAMPLES:
        return EXAMPLES[entry.id].code
    case = entry.pinned
    lines = "\n".join(call_lines(case, Setting(entry.devices[0]))).splitlines()
    if case.attends and not (case.nonfinite or case.nan_query):
        lines = _with_random_inputs(lines, case, entry.devices[0])
    lines = [line.replace("torch.nn.functional.", "F.").replace("torch.nn.T", "nn.T") for line in lines]
    lines = [line.replace("torch.nn.M", "nn.M").replace("torch.nn.L", "nn.L") for line in lines]
    return "\n".join(lines) if len(lines) <= _MOST else ""


def _with_random_inputs(lines, case, device):
    """The lines with torch.randn in place of the numbers of the inputs."""
    kind = "" if case.dtype == "float32" else f", dtype=torch.{case.dtype}"
    kind += "" if device == "cpu" else f', device="{device}"'
    shapes = {name: ", ".join(map(str, array.shape)) for name, array in inputs(case).items()}
    for node in reversed(ast.parse("\n".join(lines)).body):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and "torch.tensor(" in ast.unparse(node)
        ):
            name = node.targets[0].id
            if name in shapes:
                lines[node.lineno - 1 : node.end_lineno] = [f"{name} = torch.randn({shapes[name]}{kind})"]
    return lines
