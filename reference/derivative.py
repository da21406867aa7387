"""Directional derivatives by the complex step (Squire and Trapp, 1998): Im f(x + ih d) / h, exact up to rounding."""

import numpy as np

_STEP = 1e-20  # its square vanishes beside 1 in every dtype; the step itself stays far above underflow


def displaced(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """x + ih * direction, with an infinitesimal h. A bool array is returned unchanged."""
    return x if x.dtype == bool else x + (1j * _STEP) * direction


def derivative(y: np.ndarray) -> np.ndarray:
    """The directional derivative of a result `y` of displaced arguments; 0 if `y` depends on none of them."""
    return np.imag(y) / _STEP


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b. The result of complex arrays with inf is computed part by part, as their product in BLAS is NaN.

    Other objects, which record a backward pass, have a product of their own.
    """
    are_arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    if not are_arrays or not (np.iscomplexobj(a) or np.iscomplexobj(b)):
        return a @ b
    if np.isfinite(a).all() and np.isfinite(b).all():
        return a @ b
    with np.errstate(invalid="ignore"):  # inf - inf is NaN
        real, imag = a.real @ b.real - a.imag @ b.imag, a.real @ b.imag + a.imag @ b.real
    return complex_of(real, imag)


def complex_of(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    """The complex array of two parts, which real + 1j * imaginary is not if a part is NaN or inf."""
    array = np.empty(real.shape, np.result_type(real, np.complex64))
    array.real, array.imag = real, imaginary
    return array
