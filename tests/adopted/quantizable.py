"""torch.ao.nn.quantizable.MultiheadAttention with the interface of nn.MultiheadAttention, for --subject.

It is the float module that `torch.ao.quantization.prepare` and `convert` quantize. `--subject
tests.adopted.quantizable:Quantizable` measures it, judged by the ledger that LEDGER names.
"""

import re
from collections.abc import Mapping
from functools import wraps
from typing import Any

import torch
from torch.ao.nn import quantizable

LEDGER = "tests.adopted.quantizable_ledger"

# {type of the error: its message} of calls that the module documents, or says, not to support
REFUSED = {
    ValueError: r"not enough values to unpack \(expected 3, got 2\)",  # inputs have a batch dimension (docstring)
    RuntimeError: "only supports boolean masks",  # a padding mask is bool (docstring)
    AssertionError: r"Only allow causal mask or attn_mask|causal mask not supported",  # no is_causal
}


class Quantizable(quantizable.MultiheadAttention):
    """torch.ao.nn.quantizable.MultiheadAttention without the parameters that it inherits and does not use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, None)

    def load_state_dict(self, state: Mapping[str, torch.Tensor], strict: bool = True) -> Any:
        """Take the parameters under the names of nn.MultiheadAttention."""
        state = dict(state)
        for kind in ("weight", "bias"):
            if f"in_proj_{kind}" in state:
                parts = state.pop(f"in_proj_{kind}").chunk(3)
                state |= {f"linear_{letter}.{kind}": part for letter, part in zip("QKV", parts, strict=True)}
        for letter in "QKV":
            if f"{letter.lower()}_proj_weight" in state:
                state[f"linear_{letter}.weight"] = state.pop(f"{letter.lower()}_proj_weight")
        return super().load_state_dict(state, strict)

    @wraps(quantizable.MultiheadAttention.forward)
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The result of the module. Raises NotImplementedError for a call in REFUSED, and for no other."""
        try:
            return super().forward(*inputs, **options)
        except NotImplementedError as error:
            raise RuntimeError(str(error)) from None
        except tuple(REFUSED) as error:
            if re.search(REFUSED[type(error)], str(error)):
                raise NotImplementedError(str(error)) from None
            raise
