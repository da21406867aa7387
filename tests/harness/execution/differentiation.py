"""Differentiates the results of a call by its tensors, in the way of its mode."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..cases.case import Case
from ..contents.arrays import directions
from ..contents.results import as_given, as_held, cotangents
from ..modes.modes import BY_ID
from .call import lay_out, to_numpy


@dataclass
class Results:
    """The tensors of a call and of its backward pass, as far as it came. The fields are those of an Observation."""

    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    second_gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    tangents: dict[str, torch.Tensor] = field(default_factory=dict)
    kept: tuple[np.ndarray, ...] = ()
    error: tuple[str, str] | None = None


def move(case: Case, tensors: Mapping[str, torch.Tensor]) -> None:
    """Set the attribute `tangent` of each tensor that requires a gradient."""
    for name, direction in directions(case).items():
        tensors[name].tangent = torch.tensor(as_given(case, name, direction)).to(tensors[name])


def differentiate(case: Case, results: Results, tensors: Mapping[str, torch.Tensor]) -> None:
    """Add the derivatives of the outputs that the mode asks for: tangents, or gradients of first and second order."""
    mode = BY_ID[case.mode]
    if mode.is_forward:
        results.tangents = {n: tensor.tangent for n, tensor in results.outputs.items() if hasattr(tensor, "tangent")}
        return
    results.gradients = _gradients(case, results.outputs, tensors)
    if mode.is_second_order:
        results.second_gradients = _second_gradients(case, results.gradients, tensors)


def held(case: Case, gradients: Mapping[str, torch.Tensor | None]) -> dict[str, np.ndarray | None]:
    """{name: array in the shape of arrays.py, or None} of {name: tensor or None}"""
    return {
        name: None if gradient is None else as_held(case, name, to_numpy(gradient))
        for name, gradient in gradients.items()
    }


def _gradients(case, outputs, tensors):
    moving = {name: tensors[name] for name in directions(case)}
    results = {name: tensor for name, tensor in outputs.items() if tensor.requires_grad}
    if not results:
        return dict.fromkeys(moving)
    weights = cotangents(case, {name: tuple(tensor.shape) for name, tensor in outputs.items()})
    weights = [_cotangent(case, weights[name], tensor) for name, tensor in results.items()]
    gradients = torch.autograd.grad(
        list(results.values()),
        list(moving.values()),
        weights,
        create_graph=BY_ID[case.mode].is_second_order,
        allow_unused=True,
    )
    return dict(zip(moving, gradients, strict=True))


def _second_gradients(case, gradients, tensors):
    """The gradients of sum(gradients * directions); None for all if the sum depends on none of the tensors."""
    moving = {name: tensors[name] for name in gradients}
    found = {name: gradient for name, gradient in gradients.items() if gradient is not None and gradient.requires_grad}
    if not found:
        return dict.fromkeys(moving)
    along = [torch.tensor(as_given(case, name, directions(case)[name])).to(tensors[name]) for name in found]
    second = torch.autograd.grad(list(found.values()), list(moving.values()), along, allow_unused=True)
    return dict(zip(moving, second, strict=True))


def _cotangent(case, weights, result):
    """The weights of the loss as a tensor with the memory layout of the inputs, such as a sum or an indexed loss makes.

    0 for elements that are NaN: such elements are checked to be NaN and no more.
    """
    is_nan = result.detach().isnan().cpu().numpy()
    weights = np.where(is_nan, 0, weights) if is_nan.any() else weights
    return lay_out(weights, case.layout, str(result.dtype).removeprefix("torch.")).to(result.device)
