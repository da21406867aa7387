"""Cases from which the faults make the calls that show them. The seed of a case decides every random number."""

from dataclasses import replace

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask

HIDING = Mask("bool", "random")
CAUSAL = Mask("bool", "causal")
BIAS = Mask("float", "causal", "bias")
FINITE = Mask("float", "random", "finite")
PER_HEAD = Mask("bool", "random", per_head=True)
PADDING = Mask("bool", "right")
SCATTERED = Mask("bool", "scattered")
FLOAT_PADDING = Mask("float", "scattered", "finite")

# Autograd records these calls, so that the Python code of the modules serves them, not a native operator.
_PYTHON = {"autograd": "grad", "seed": 3}
SDPA = ScaledDotProduct(**_PYTHON, batch=(2, 2), L=3, S=4, D=2, Dv=2)
ATTENTION = MultiHead(**_PYTHON, N=2, L=3, S=3, num_heads=2, head_dim=2, attention="self", need_weights=False)
CROSS = replace(ATTENTION, S=4, attention="cross")
_LAYER = {
    "autograd": "grad",
    "seed": 2,
    "N": 2,
    "S": 4,
    "T": 3,
    "num_heads": 2,
    "head_dim": 2,
    "dim_feedforward": 4,
    "activation": "gelu",
}
ENCODER_LAYER = Transformer(**_LAYER, module="TransformerEncoderLayer")
ENCODER = Transformer(**_LAYER, module="TransformerEncoder", num_layers=2)
DECODER_LAYER = Transformer(**_LAYER, module="TransformerDecoderLayer")
DECODER = Transformer(**_LAYER, module="TransformerDecoder", num_layers=2)
TRANSFORMER = Transformer(**_LAYER, module="Transformer", num_layers=2, norm=True)


def weighing(case: MultiHead, average: bool = True) -> MultiHead:
    """The case with weights returned: their mean over heads, or those of each head."""
    return replace(case, need_weights=True, average_attn_weights=average)


def inferring(case: Case) -> Case:
    """The case without autograd: a native operator serves the call if there is one for it."""
    return replace(case, autograd="no_grad")
