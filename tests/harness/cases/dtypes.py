"""The dtypes of torch, how NumPy holds their numbers (it has no bfloat16), and arithmetic that rounds as they do."""

from dataclasses import dataclass

import numpy as np

FULL, LOW = ("float64", "float32"), ("bfloat16", "float16")


@dataclass(frozen=True)
class Precision:
    """A dtype of torch. size: in bytes. held: the dtype of arrays that hold its numbers. The rest as in torch.finfo."""

    size: int
    held: str
    eps: float
    tiny: float
    max: float

    @property
    def min(self):
        return -self.max

    @property
    def roundoff(self):
        """The largest relative error of a rounding."""
        return self.eps / 2


def _of_numpy(dtype):
    limits = np.finfo(dtype)
    return Precision(limits.bits // 8, dtype, *(float(getattr(limits, name)) for name in ("eps", "tiny", "max")))


_BFLOAT16 = Precision(2, "float32", 2.0**-7, 2.0**-126, float(np.finfo("float32").max) * (2 - 2.0**-7) / (2 - 2.0**-23))
PRECISIONS = {"bfloat16": _BFLOAT16} | {dtype: _of_numpy(dtype) for dtype in ("float64", "float32", "float16")}


def held(dtype):
    """The NumPy dtype that holds the numbers of a dtype of torch."""
    return PRECISIONS[dtype].held


def rounded(array, dtype):
    """The array in numbers of a dtype of torch, to the nearest, ties to even."""
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(held(dtype))
    if dtype != "bfloat16":
        return array
    bits = array.view(np.uint32)
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(array), nearest.view(np.float32), array)


class Emulated(np.ndarray):
    """Numbers of a low precision, each result of whose arithmetic is rounded to it; sums are kept in float32."""

    dtype_of_torch = None

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
    """The numbers with as many digits, but of any size: derivatives are carried along as minute imaginary parts."""
    fraction, exponent = np.frexp(array)
    return np.ldexp(np.round(fraction / roundoff) * roundoff, exponent)


def emulated(array, dtype):
    """The array in the arithmetic of a low precision; what holds no such numbers stays as it is."""
    array = np.asarray(_plain(array))
    if not np.issubdtype(array.dtype, np.inexact):
        return array
    result = rounded(array.real, dtype).astype("float32")
    if np.iscomplexobj(array):
        real, result = result, np.empty(array.shape, "complex64")
        result.real, result.imag = real, _short(array.imag, PRECISIONS[dtype].roundoff)
    result = np.asarray(result).view(Emulated)
    result.dtype_of_torch = dtype
    return result
