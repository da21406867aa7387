"""Modes in which the callable is attention written by hand and compiled: softmax(q k^T / s + mask) v.

Inductor's pattern matcher rewrites some spellings to scaled_dot_product_attention. It does so in its passes over the
joint graph; the modes run these passes and then execute the graph, without the C++ compiler that takes seconds.
"""

from dataclasses import dataclass
from typing import Any

from ..cases.base import WRITTEN as FAMILY
from ..cases.case import Case
from .mode import SDPA, Mode

_WRITTEN = """\
import math

from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import detect_fake_mode
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.virtualized import V

def attention(q, k, v, mask, factor):
    BODY

def rewritten(graph, inputs):  # as inductor rewrites it
    joint_graph_passes(graph)
    return graph

def partition(graph, inputs, **options):
    return min_cut_rematerialization_partition(rewritten(graph, inputs), inputs, **options)

def inductor_without_its_compiler(graph, inputs):
    passes = {"partition_fn": partition, "inference_compiler": lambda *given: make_boxed_func(rewritten(*given))}
    passes |= {"fw_compiler": lambda graph, _: make_boxed_func(graph), "decompositions": select_decomp_table()}
    with V.set_fake_mode(detect_fake_mode(inputs)):
        return aot_autograd(**passes)(graph, inputs)

torch._dynamo.reset()
compiled = torch.compile(attention, backend=inductor_without_its_compiler)

def written(query, key, value, attn_mask=None, scale=None):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return compiled(*(x.contiguous() for x in (GIVEN)), attn_mask, FACTOR)
"""


@dataclass(frozen=True)
class Form:
    """A spelling of attention: the lines of a function of q, k, v, mask and factor, and the arguments of a call."""

    scores: str  # an expression of the scores
    factor: str  # an expression of the argument `factor`
    permutes: bool = False  # q, k, v are (N, L, heads, D), as a projection gives them
    fills: str = "-math.inf"  # an expression of the score of a key that a bool mask hides
    hides: str = "scores.masked_fill(~mask, {})"  # an expression of the scores under a bool mask
    softmax: str = "scores.softmax(-1)"  # an expression of the weights
    query: str = "query"  # an expression of the query that is given

    @property
    def divides(self) -> bool:
        """True if scores are divided by a number, so that a scale of 0 cannot be written."""
        return "1 / scale" in self.factor

    @property
    def multiplies(self) -> bool:
        """True if scores are multiplied by the scale, so that inductor rewrites no call with a mask."""
        return "* factor" in self.scores

    @property
    def divides_by_tensor(self) -> bool:
        """True if the divisor is a tensor."""
        return "torch.tensor" in self.factor or "torch.full" in self.scores

    @property
    def turns_key_at_once(self) -> bool:
        """True if the key is permuted to (N, heads, D, S) in one step, so that no other step transposes it."""
        return "k.permute" in self.scores

    @property
    def fills_with_a_number(self) -> bool:
        """True if a query that a bool mask hides from every key attends to all keys alike."""
        return "finfo" in self.fills

    @property
    def text(self) -> str:
        """The statements of a mode (Mode.made)."""
        moved = "q, v" if self.turns_key_at_once else "q, k, v"
        lines = [f"{moved} = (x.permute(0, 2, 1, 3) for x in ({moved}))"] * self.permutes
        lines += [f"scores = {self.scores}", "if mask is not None and mask.dtype is torch.bool:"]
        lines += [f"    scores = {self.hides.format(self.fills)}", "elif mask is not None:"]
        lines += ["    scores = scores + mask", f"return {self.softmax} @ v"]
        given = [name + ".transpose(1, 2)" * self.permutes for name in (self.query, "key", "value")]
        text = _WRITTEN.replace("BODY", "\n    ".join(lines)).replace("FACTOR", self.factor)
        return text.replace("GIVEN", ", ".join(given))


_DIVIDED = "q @ k.transpose(-2, -1) / factor"
_LOWEST = "torch.full((), torch.finfo(q.dtype).min, dtype=q.dtype)"

FORMS = {
    "written": Form(_DIVIDED, "1 / scale"),
    "written_times": Form("q @ k.transpose(-2, -1) * factor", "scale", hides="torch.where(mask, scores, {})"),
    "written_by_tensor": Form(_DIVIDED, "torch.tensor(1 / scale, dtype=query.dtype)"),
    "written_permuted": Form(_DIVIDED, "1 / scale", permutes=True),
    "written_key_permuted": Form("q @ k.permute(0, 2, 3, 1) / factor", "1 / scale", permutes=True),
    "written_key_permuted_times": Form("q @ k.permute(0, 2, 3, 1) * factor", "scale", permutes=True),
    "written_like_gpt2": Form(
        "q @ k.transpose(-2, -1) / torch.full((), factor, dtype=q.dtype)",
        "1 / scale",
        permutes=True,
        fills=_LOWEST,
        hides="torch.where(mask, scores, {})",
    ),
    "written_like_t5": Form(
        "q @ k.transpose(-2, -1)",
        "None",  # T5 has the scale in its parameters
        permutes=True,
        query="(query * scale)",
        softmax="scores.float().softmax(-1).type_as(q)",
    ),
}


def is_written(case: Case) -> bool:
    """True if the callable is attention written by hand."""
    return case.mode in FORMS


def gives_other_heads(case: Case) -> bool:
    """True if query and key differ in heads once the key's axes of heads and keys are exchanged (turns_key_at_once)."""
    return is_written(case) and FORMS[case.mode].turns_key_at_once and case.batch[-1] != case.S


def fills_with_a_number(case: Case) -> bool:
    """True if a query that is hidden from every key attends to all keys alike, as their scores are finfo.min."""
    return is_written(case) and FORMS[case.mode].fills_with_a_number and fills(case)


def fills(case: Case) -> bool:
    """True if scores of hidden keys are replaced, and get no gradient, in attention written by hand."""
    mask = getattr(case, "attn_mask", None)
    return is_written(case) and mask is not None and not mask.is_float


def modes(compiled: dict[str, Any]) -> tuple[Mode, ...]:
    """A mode for each form. compiled: the fields that all compiled modes have."""
    compiled = {**compiled, "warns": f"{compiled['warns']}|torch.jit.script"}  # of the modules that inductor imports
    fields: dict[str, Any] = {"calls": (SDPA,), "needs": "compile", "since": "2.1", "copies": "sequences"}
    fields |= {"serves": "masks", "converts_masks": False}
    return tuple(
        Mode(id, form.text, FAMILY, kin=None if id == FAMILY else FAMILY, only_on="cpu", **fields, **compiled)
        for id, form in FORMS.items()
    )
