"""Text of expressions that make tensors, in which arguments at their defaults are left out."""

DEFAULTS = ("torch.float32", "'cpu'")


def random(shape: tuple[int, ...], dtype: str, device: str) -> str:
    """An expression of a tensor of normal numbers."""
    return f"torch.randn({joined(shape, dtype=f'torch.{dtype}', device=repr(device))})"


def zeros(shape: tuple[int, ...], dtype: str, device: str) -> str:
    """An expression of a tensor of zeros."""
    return f"torch.zeros({joined(shape, dtype=f'torch.{dtype}', device=repr(device))})"


def joined(first: object, **options: str) -> str:
    """Arguments as text. options: keyword arguments, as text."""
    others = [f"{option}={value}" for option, value in options.items() if value not in DEFAULTS]
    return ", ".join([str(first), *others])
