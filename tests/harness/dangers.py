"""Calls that may end the process, or its use of the device, as measured on CUDA: they are not made.

Each is an entry of the ledger whose pinned case is run in a process of its own.
"""

import os
import sys

import torch

LOST = 70  # the exit code of a process that has lost its device


class Withheld(Exception):
    """A call that was not made, for what might have come of it."""


def withhold(path, *args, **kwargs):
    """Raise if the entry point that serves by this path (watching.PATHS) is in danger with these arguments."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if not given or given[0].device.type != "cuda":
        return
    for id, its_path, is_met in DANGERS:
        if path == its_path and is_met(*args, **kwargs):
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
    """Whether the mask has one element for all keys."""
    return attn_mask is not None and attn_mask.ndim > 0 and attn_mask.shape[-1] == 1 < key.shape[-2]


def _writes_past_the_sums(query, key, value, attn_mask=None, *_, **__):
    """Whether the mask alone is differentiated, of one head of one sample."""
    if attn_mask is None or not (attn_mask.requires_grad and torch.is_grad_enabled()):
        return False
    return query.shape[:-2].numel() == 1 and not any(tensor.requires_grad for tensor in (query, key, value))


def _packs_no_sample(tensor, *_, **__):
    return len(tensor) == 0 and tensor.dtype in (torch.float32, torch.float16)


DANGERS = (
    ("cudnn-mask-one-key", "sdpa_cudnn", _reads_past_the_mask),
    ("efficient-mask-alone-one-head", "sdpa_efficient", _writes_past_the_sums),
    ("nested-no-sample-segfault", "nested", _packs_no_sample),
)
