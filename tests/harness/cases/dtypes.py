"""Dtypes of torch in NumPy, which has no bfloat16: limits, storage, rounding and emulated low-precision arithmetic."""

from dataclasses import dataclass

import numpy as np

FULL, LOW = ("float64", "float32"), ("bfloat16", "float16")


@dataclass(frozen=True)
class Precision:
    """The limits of a floating dtype of torch, as in torch.finfo."""

    size: int  # in bytes
    held: str  # the NumPy dtype of arrays that hold its numbers: float32 for bfloat16
    eps: float  # distance from 1 to the next number
    tiny: float  # smallest positive normal number
    max: float  # largest finite number

    @property
    def min(self) -> float:
        """The lowest finite number."""
        return -self.max

    @property
    def roundoff(self) -> float:
        """The largest relative error of rounding to nearest."""
        return self.eps / 2


def _of_numpy(dtype):
    limits = np.finfo(dtype)
    return Precision(limits.bits // 8, dtype, *(float(getattr(limits, name)) for name in ("eps", "tiny", "max")))


_BFLOAT16 = Precision(2, "float32", 2.0**-7, 2.0**-126, float(np.finfo("float32").max) * (2 - 2.0**-7) / (2 - 2.0**-23))
PRECISIONS = {"bfloat16": _BFLOAT16} | {dtype: _of_numpy(dtype) for dtype in ("float64", "float32", "float16")}


def held(dtype: str) -> str:
    """The NumPy dtype of arrays that hold the numbers of this dtype of torch."""
    return PRECISIONS[dtype].held


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array rounded to a dtype of torch, to nearest with ties to even. Overflow gives inf."""
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(held(dtype))
    if dtype != "bfloat16":
        return array
    bits = array.view(np.uint32)
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(array), nearest.view(np.float32), array)


class Emulated(np.ndarray):
    """An array of low-precision numbers: the result of each operation is rounded; sums accumulate in float32."""

    dtype_of_torch: str | None = None

    def __array_finalize__(self, other):
        self.dtype_of_torch = getattr(other, "dtype_of_torch", None)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        of_torch = next(x.dtype_of_torch for x in (*inputs, *out) if isinstance(x, Emulated))
        if "where" in options:
            options["where"] = _plain(options["where"])
        if out:
            options["out"] = tuple(map(_plain, out))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        result = emulated(result, of_torch)
        if not out:
            return result
        out[0][...] = result
        return out[0]

    def __array_function__(self, function, types, arguments, options):
        result = super().__array_function__(function, types, arguments, options)
        return emulated(result, self.dtype_of_torch) if isinstance(result, np.ndarray) else result


def _plain(array):
    return array.view(np.ndarray) if isinstance(array, Emulated) else array


def _short(array, roundoff):
    """The numbers rounded to the digits of a precision, without limits on their exponents.

    For imaginary parts, which carry derivatives and are tiny.
    """
    fraction, exponent = np.frexp(array)
    return np.ldexp(np.round(fraction / roundoff) * roundoff, exponent)


def emulated(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array as an Emulated of this dtype. Arrays of bools or integers are returned unchanged."""
    array = np.asarray(_plain(array))
    if not np.issubdtype(array.dtype, np.inexact):
        return array
    result = rounded(array.real, dtype).astype("float32")
    if np.iscomplexobj(array):
        real, result = result, np.empty(array.shape, "complex64")
        result.real, result.imag = real, _short(array.imag, PRECISIONS[dtype].roundoff)
    emulating = np.asarray(result).view(Emulated)
    emulating.dtype_of_torch = dtype
    return emulating
