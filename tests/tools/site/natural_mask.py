"""Masks as people write them: expressions of torch for the arrays of a case."""

import numpy as np

_MOST = 24  # elements of a mask that is written out


def mask_lines(name: str, array: np.ndarray, kind: tuple[str, ...], layout: str = "contiguous") -> list[str] | None:
    """The statements that make the mask; None if it can only be written as a long list.

    kind: the arguments `dtype` and `device` of a float mask, as text; of a bool mask only the device counts.
    """
    if layout == "expanded" and array.ndim > 1:
        lines = mask_lines(name, array[:1], kind)
        return lines and [*lines, f"{name} = {name}.expand({_sizes(array)})"]
    if layout != "contiguous":
        return None
    if array.dtype == bool:
        kind = ("dtype=torch.bool", *(its for its in kind if its.startswith("device")))
        return _bool_lines(name, array, kind)
    return _float_lines(name, array, kind)


def _bool_lines(name, array, kind):
    for one, other, odd in (("zeros", False, True), ("ones", True, False)):
        if (array == other).all():
            return [f"{name} = torch.{one}({_arguments(_sizes(array), kind)})"]
        if found := _set_part(array, other):
            return [f"{name} = torch.{one}({_arguments(_sizes(array), kind)})", f"{name}[{found}] = {odd}"]
    if array.ndim == 2 and (triangle := _triangle(array, kind)):
        return [f"{name} = {triangle}"]
    return _literal(name, array, kind[1:])


def _set_part(array, rest):
    """The index of the row or column whose elements alone differ from the others, as text; None if there is none."""
    if array.ndim != 2 or array.size < 6:
        return None
    for axis, text in ((1, "{}"), (0, ":, {}")):
        lines = np.flatnonzero((array != rest).all(axis))
        others = np.delete(array, lines, 1 - axis)
        if len(lines) == 1 and (others == rest).all():
            return text.format(lines[0])
    return None


def _triangle(array, kind):
    ones = f"torch.ones({_arguments(_sizes(array), kind)})"
    full = np.ones(array.shape, bool)
    if (array == np.triu(full, 1)).all():
        return f"torch.triu({ones}, diagonal=1)"
    return f"{ones}.tril()" if (array == np.tril(full)).all() else None


def _float_lines(name, array, kind):
    numbers = set(np.unique(array))
    if array.size and len(numbers) == 1:
        (number,) = numbers
        return [
            f"{name} = torch.zeros({_arguments(_sizes(array), kind)})"
            if number == 0
            else f"{name} = torch.full({_arguments(f'({_sizes(array)})', (_number(number), *kind))})"
        ]
    if not array.size:
        return [f"{name} = torch.zeros({_arguments(_sizes(array), kind)})"]
    if numbers == {0.0, -np.inf}:
        if array.ndim == 2 and (array == np.where(np.triu(np.ones(array.shape, bool), 1), -np.inf, 0)).all():
            filled = _arguments(f"({_sizes(array)})", ('float("-inf")', *kind))
            return [f"{name} = torch.triu(torch.full({filled}), diagonal=1)"]
        hidden = _bool_lines("hidden", array != 0, ("dtype=torch.bool", *(k for k in kind if k.startswith("device"))))
        zeros = f"torch.zeros({_arguments(_sizes(array), kind)})"
        return hidden and [*hidden, f'{name} = {zeros}.masked_fill(hidden, float("-inf"))']
    return _literal(name, array, kind)


def _literal(name, array, kind):
    if array.size > _MOST:
        return None
    return [f"{name} = torch.tensor({_arguments(_listed(array), kind)})"]


def _listed(array):
    if array.ndim:
        return f"[{', '.join(_listed(part) for part in array)}]"
    return str(bool(array)) if array.dtype == bool else _number(float(array))


def _number(number):
    if np.isinf(number):
        return 'float("-inf")' if number < 0 else 'float("inf")'
    for dtype in ("float32", "float64", "float16"):
        if number == np.finfo(dtype).min:
            return f"torch.finfo(torch.{dtype}).min"
    return repr(round(float(number), 3))


def _arguments(first, kind):
    return ", ".join((first, *kind))


def _sizes(array):
    return ", ".join(map(str, array.shape))
