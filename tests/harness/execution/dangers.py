"""Calls known to crash the process or to make the GPU unusable, on CPU and CUDA: the suite skips them.

Each is an entry of the ledger. Its pinned case runs in a separate process.
"""

import os
import sys
from typing import Any

import torch
from packaging.version import Version

from ..path_names import NESTED, SDPA_CUDNN, SDPA_EFFICIENT, SDPA_FLASH
from ..releases import contains

LOST = 70  # the exit code of a process whose device has become unusable


class Withheld(Exception):
    """The call is skipped: it is in DANGERS. The message is the id of its entry."""


def withhold(path: str, *args: Any, **kwargs: Any) -> None:
    """Raise Withheld if this path (watching.PATHS) is known to crash with these arguments of its entry point."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    for id, device, its_path, is_met in DANGERS if given else ():
        if (given[0].device.type, path) == (device, its_path) and is_met(*args, **kwargs):
            raise Withheld(id)


def end_if_lost(device: str, message: str) -> None:
    """Exit with LOST if `message` is a CUDA error that has made the device unusable. Torch cannot recover from it."""
    if "CUDA error" not in message:
        return
    try:
        torch.zeros(1, device=device).sum().item()
    except Exception:  # every further operation on the device raises
        print(f"{device} is lost: {message.splitlines()[0]}", file=sys.stderr, flush=True)
        os._exit(LOST)


def _reads_past_the_mask(query, key, value, attn_mask=None, *_, **__):
    """True if the mask has one column for all keys: cuDNN reads past its end."""
    return attn_mask is not None and attn_mask.ndim > 0 and attn_mask.shape[-1] == 1 < key.shape[-2]


def _writes_past_the_sums(query, key, value, attn_mask=None, *_, **__):
    """True if only the mask requires a gradient, with one head and one sample: the kernel writes past a buffer."""
    if attn_mask is None or not (attn_mask.requires_grad and torch.is_grad_enabled()):
        return False
    return query.shape[:-2].numel() == 1 and not any(tensor.requires_grad for tensor in (query, key, value))


def _packs_no_sample(tensor, *_, **__):
    """True if a nested tensor is made of zero samples: a segmentation fault."""
    return len(tensor) == 0 and tensor.dtype in (torch.float32, torch.float16)


def _divides_by_no_heads(query, key, value, *_, **__):
    """True if the release divides by the number of heads, which is 0. Without queries or keys no kernel runs."""
    has_no_heads = 0 in (query.shape[-3], key.shape[-3]) and 0 not in (query.shape[-2], key.shape[-2])
    return has_no_heads and contains(DIVIDE_BY_HEADS, Version(torch.__version__))


DIVIDE_BY_HEADS = ">=2.9,<2.12"  # the releases whose flash kernel divides by the number of heads

DANGERS = (
    ("cudnn-mask-one-key", "cuda", SDPA_CUDNN, _reads_past_the_mask),
    ("efficient-mask-alone-one-head", "cuda", SDPA_EFFICIENT, _writes_past_the_sums),
    ("nested-no-sample-segfault", "cuda", NESTED, _packs_no_sample),
    ("flash-no-heads", "cpu", SDPA_FLASH, _divides_by_no_heads),
)
