"""Calls that may end the process, or its use of the device, as measured on CUDA and on CPU: they are not made.

Each is an entry of the ledger whose pinned case is run in a process of its own.
"""

import os
import sys

import torch
from packaging.version import Version

from ..releases import contains

LOST = 70  # the exit code of a process that has lost its device


class Withheld(Exception):
    """A call that was not made, for what might have come of it."""


def withhold(path, *args, **kwargs):
    """Raise if the entry point that serves by this path (watching.PATHS) is in danger with these arguments."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    for id, device, its_path, is_met in DANGERS if given else ():
        if (given[0].device.type, path) == (device, its_path) and is_met(*args, **kwargs):
            raise Withheld(id)


def end_if_lost(device, message):
    """End the process if this message of an error says that the device is lost: torch has no way to get it back."""
    if "CUDA error" not in message:
        return
    try:
        torch.zeros(1, device=device).sum().item()
    except Exception:  # whatever is asked of it raises, and so would every call to come
        print(f"{device} is lost: {message.splitlines()[0]}", file=sys.stderr, flush=True)
        os._exit(LOST)


def _reads_past_the_mask(query, key, value, attn_mask=None, *_, **__):
    """True if the mask has one element for all keys."""
    return attn_mask is not None and attn_mask.ndim > 0 and attn_mask.shape[-1] == 1 < key.shape[-2]


def _writes_past_the_sums(query, key, value, attn_mask=None, *_, **__):
    """True if the mask alone is differentiated, of one head of one sample."""
    if attn_mask is None or not (attn_mask.requires_grad and torch.is_grad_enabled()):
        return False
    return query.shape[:-2].numel() == 1 and not any(tensor.requires_grad for tensor in (query, key, value))


def _packs_no_sample(tensor, *_, **__):
    return len(tensor) == 0 and tensor.dtype in (torch.float32, torch.float16)


def _divides_by_no_heads(query, key, value, *_, **__):
    """True if there are no heads to divide by, in a release that does; without queries or keys nothing is computed."""
    has_no_heads = 0 in (query.shape[-3], key.shape[-3]) and 0 not in (query.shape[-2], key.shape[-2])
    return has_no_heads and contains(DIVIDE_BY_HEADS, Version(torch.__version__))


DIVIDE_BY_HEADS = ">=2.9,<2.12"  # the releases that do


DANGERS = (
    ("cudnn-mask-one-key", "cuda", "sdpa_cudnn", _reads_past_the_mask),
    ("efficient-mask-alone-one-head", "cuda", "sdpa_efficient", _writes_past_the_sums),
    ("nested-no-sample-segfault", "cuda", "nested", _packs_no_sample),
    ("flash-no-heads", "cpu", "sdpa_flash", _divides_by_no_heads),
)
