"""The statements of a script that differentiate gradients again, and compare the result."""

from collections.abc import Iterator

from tests.harness.judgement.second_order import SecondOrder

from .python_text import Bracketed, Statement, Suite, number


def differentiated_again() -> Iterator[Statement]:
    """Generates statements that differentiate the sum of `gradients` along `directions` for all `leaves`."""
    yield "along = [leaf.new_tensor(directions[name]).view_as(leaf) for name, leaf in leaves.items()]"
    summed = "(gradient * its).sum() for gradient, its in zip(gradients, along)"
    yield f"sums = [{summed} if gradient is not None and gradient.requires_grad]"
    yield "second = [None] * len(leaves)"
    again = Bracketed("second = torch.autograd.grad(", ("sum(sums)", "list(leaves.values())", "allow_unused=True"))
    yield Suite("if sums:", (again,))


def second_gradients(expected: SecondOrder | None) -> Iterator[Statement]:
    """Generates statements that compare `second`. expected: the specification, if it is known."""
    if expected is None:
        return
    *_, allowed = expected.bounds()
    bends = tuple(f'"{name}": {number(bend)}' for name, bend in expected.along().items())
    yield Bracketed("bends = {", bends, "}")
    loop = (
        "bend = 0 if gradient is None else (gradient * its).double().sum().item()",
        'print(f"second derivative along {name}: expected {bends[name]}, got {bend}")',
        f"wrong = wrong or not abs(bend - bends[name]) <= {4 * allowed:.0e}",
    )
    yield Suite("for name, gradient, its in zip(leaves, second, along):", loop)
