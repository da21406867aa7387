"""Linear layers as torch.ao.quantization.quantize_dynamic makes them, in the arithmetic of FBGEMM, the engine of x86.

A weight is rounded once, to 256 levels around 0. Inputs are rounded in each call, to 128 levels from the least to the
largest element of all positions of all samples. Sources: torch/ao/quantization/observer.py, quant_utils.h in
aten/src/ATen/native/quantized/cpu of PyTorch, and QuantUtils.h of FBGEMM.
"""

from dataclasses import dataclass

import numpy as np

from reference.attention import linear

STEPS = 127  # between the least and the largest input; 255 would overflow the 16 bits of a sum of two products
_SMALLEST = 6.1e-5  # the smallest step


@dataclass(frozen=True)
class EightBits:
    """A linear layer in eight bits, called as reference.attention.linear is."""

    level_of_nan: float = np.nan
    # added before an input, or the level of 0, is rounded: a number near the middle of two levels may go either way
    nudge: float = 0.0
    nudge_of_zero: float = 0.0

    def __call__(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
        least, largest = self.range(x)
        step = (max(largest, 0.0) - min(least, 0.0)) / STEPS
        zero = np.round(-min(least, 0.0) / step + self.nudge_of_zero) if step else 0.0
        step = max(step, _SMALLEST)
        levels = np.clip(np.round(x / step + self.nudge) + zero, 0, 255)
        levels = np.where(np.isnan(x), self.level_of_nan, levels) - zero
        return linear((step * levels).astype(x.dtype), rounded_weight(weight), bias)

    def range(self, x: np.ndarray) -> tuple[float, float]:
        """The least and the largest input that is not NaN."""
        return float(np.fmin.reduce(x, axis=None, initial=0)), float(np.fmax.reduce(x, axis=None, initial=0))


def rounded_weight(weight: np.ndarray) -> np.ndarray:
    """The weight at the nearest of its levels, which torch computes in float32."""
    single = weight.astype("float32")
    step = np.abs(single).max(initial=0) / np.float32(127.5)
    step = max(step, np.finfo("float32").eps)
    return (step * np.clip(np.round(single * (1 / step)), -128, 127)).astype(weight.dtype)
