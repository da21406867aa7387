"""Faults of gradients: the results of the forward pass are right."""

import re
from dataclasses import replace

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, canonical, edit_attention, edit_module, float_mask, masked, put, sdpa
from tests.sensitivity.literals import (
    BIAS,
    CAUSAL,
    CROSS,
    DECODER_LAYER,
    ENCODER,
    FINITE,
    FLOAT_PADDING,
    HIDING,
    PADDING,
    SDPA,
    weighing,
)

_MASKED = replace(SDPA, attn_mask=HIDING)
_LEARNED = replace(SDPA, attn_mask=BIAS)
_ATTENDING = "attn_output = torch.bmm(attn_output_weights, v)"


def _gradient(name, change):
    """A `before` that replaces the gradient of the argument `name` with change(gradient)."""

    def before(call):
        tensor = getattr(call, name)
        if tensor is not None and tensor.requires_grad:
            tensor = tensor.view_as(tensor)  # the hook sees only the gradient of this use
            tensor.register_hook(change)
            setattr(call, name, tensor)

    return before


def _detach_but_in_the_last_sample(call):
    per_sample = call.attn_mask[None, None]
    others = per_sample.detach().expand(len(call.query) - 1, -1, -1, -1)
    call.attn_mask = torch.cat([others, per_sample])


def _learns_one_mask(call):
    return float_mask(call) and call.attn_mask.ndim == 2 and call.query.ndim == 4 and len(call.query) > 1


def _of_sdpa(id, title, name, change, shows, when=masked):
    return Fault(id, title, sdpa(before=_gradient(name, change), when=when), shows)


def _spend_the_graph(call):
    """Make the query take no gradient from the second backward pass over the graph of the call."""
    losses = []

    def first(gradient):
        losses.append(True)
        return gradient if len(losses) == 1 else torch.zeros_like(gradient)

    _gradient("query", first)(call)


def _first_of_batch(gradient):
    """The first gradient of a batch, which torch.autograd.grad(is_grads_batched=True) makes with the older vmap."""
    if not re.search(r"\bBatched\b", str(torch._C._dispatch_keys(gradient))):
        return gradient
    return torch._remove_batch_dim(gradient, 1, 1, 0)[0]


FAULTS = (
    Fault(
        "mask-detached",
        "a float mask of a module gets no gradient",
        canonical(lambda mask, call: mask.detach()),
        replace(CROSS, attn_mask=FINITE),
    ),
    Fault(
        "padding-detached",
        "a float padding mask gets no gradient",
        canonical(lambda mask, call: mask.detach(), when=lambda call: call.mask_name == "key_padding_mask"),
        replace(CROSS, key_padding_mask=FLOAT_PADDING),
    ),
    Fault(
        "sdpa-mask-detached",
        "SDPA gives a float mask no gradient",
        sdpa(before=put("attn_mask", torch.Tensor.detach), when=float_mask),
        _LEARNED,
    ),
    Fault(
        "sdpa-mask-gradient-of-the-last-sample",
        "SDPA gives a 2-D float mask the gradient of the last sample alone",
        sdpa(before=_detach_but_in_the_last_sample, when=_learns_one_mask),
        _LEARNED,
    ),
    Fault(
        "sdpa-broadcast-mask-detached",
        "SDPA gives a broadcast float mask no gradient",
        sdpa(
            before=put("attn_mask", torch.Tensor.detach),
            when=lambda call: float_mask(call) and call.attn_mask.dim() < call.query.dim(),
        ),
        _LEARNED,
    ),
    _of_sdpa(
        "mask-gradient-doubled",
        "the gradient of a mask is doubled",
        "attn_mask",
        lambda gradient: 2 * gradient,
        _LEARNED,
    ),
    _of_sdpa(
        "mask-gradient-of-the-first-row",
        "a mask's gradient is lost after its first row",
        "attn_mask",
        lambda gradient: torch.cat([gradient[..., :1, :], 0 * gradient[..., 1:, :]], -2),
        _LEARNED,
        when=lambda call: masked(call) and call.attn_mask.dim() > 1,
    ),
    _of_sdpa(
        "value-gradient-leaks", "hidden values get a small gradient", "value", lambda gradient: gradient + 1e-3, _MASKED
    ),
    _of_sdpa(
        "value-gradient-leaks-a-little",
        "hidden values get a gradient of 1e-7",
        "value",
        lambda gradient: gradient + 1e-7 * (gradient == 0),
        replace(SDPA, attn_mask=Mask("bool", "column")),
        when=lambda call: masked(call) and call.value.dtype == torch.float64,
    ),
    _of_sdpa(
        "key-gradient-leaks", "hidden keys get a small gradient", "key", lambda gradient: gradient + 1e-3, _MASKED
    ),
    _of_sdpa("query-gradient-lost", "queries get no gradient if a mask is given", "query", torch.zeros_like, _MASKED),
    _of_sdpa(
        "query-gradient-of-the-first-head",
        "queries get no gradient but in the first head",
        "query",
        lambda gradient: torch.cat([gradient[:, :1], 0 * gradient[:, 1:]], 1),
        _MASKED,
        when=lambda call: masked(call) and call.query.dim() == 4,
    ),
    _of_sdpa(
        "key-gradient-of-the-last-lost",
        "the last key gets no gradient under is_causal",
        "key",
        lambda gradient: torch.cat([gradient[..., :-1, :], 0 * gradient[..., -1:, :]], -2),
        replace(SDPA, L=4, is_causal=True),
        when=lambda call: bool(call.is_causal),
    ),
    _of_sdpa(
        "value-gradient-nan-in-empty-rows",
        "the gradient of values is NaN for fully masked queries",
        "value",
        lambda gradient: gradient * torch.nan,
        replace(SDPA, attn_mask=Mask("bool", "row")),
        when=lambda call: masked(call) and call.attn_mask.dtype == torch.bool and not call.attn_mask.any(-1).all(),
    ),
    Fault(
        "weights-not-differentiated",
        "if weights are requested, queries and keys get no gradient through the output",
        edit_attention(_ATTENDING, "attn_output = torch.bmm(attn_output_weights.detach(), v)"),
        weighing(replace(CROSS, attn_mask=HIDING)),
    ),
    Fault(
        "values-not-differentiated",
        "if weights are requested and padding is given, values get no gradient",
        edit_attention(
            _ATTENDING, "attn_output = torch.bmm(attn_output_weights, v if key_padding_mask is None else v.detach())"
        ),
        weighing(replace(CROSS, key_padding_mask=PADDING)),
    ),
    Fault(
        "causal-mask-without-gradient",
        "a causal mask keeps all but the query from being differentiated",
        edit_module(
            "TransformerEncoder",
            "mask = F._canonical_mask(\n        mask=mask",
            "src = src.detach() if is_causal else src\n    mask = F._canonical_mask(\n        mask=mask",
        ),
        replace(ENCODER, src_mask=CAUSAL, src_is_causal=True),
    ),
    Fault(
        "memory-detached",
        "the memory gets no gradient if it is padded",
        edit_module(
            "TransformerDecoderLayer",
            "x = self.multihead_attn(",
            "mem = mem if key_padding_mask is None else mem.detach()\n    x = self.multihead_attn(",
            "_mha_block",
        ),
        replace(DECODER_LAYER, memory_key_padding_mask=PADDING),
    ),
    Fault(
        "batched-mask-gradient-of-the-first",
        "with several cotangents at once, a float mask gets the gradient of the first",
        sdpa(before=_gradient("attn_mask", _first_of_batch), when=float_mask),
        replace(_LEARNED, mode="batched_gradients"),
    ),
    Fault(
        "retained-graph-spent",
        "a query gets no gradient from the second backward pass over a graph",
        sdpa(before=_spend_the_graph, when=masked),
        replace(SDPA, attn_mask=HIDING, autograd="grad", mode="accumulated_gradients"),
    ),
)
