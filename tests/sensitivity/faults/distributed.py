"""Faults of the wrappers of torch.distributed, which share a call between two processes."""

from dataclasses import replace

import torch
from torch.nn.parallel import DistributedDataParallel

from tests.sensitivity.injection import Fault, Patch
from tests.sensitivity.literals import ATTENTION, CAUSAL, ENCODER, PADDING, PER_HEAD

_ATTENTION = replace(ATTENTION, mode="distributed", key_padding_mask=PADDING)
_ENCODER = replace(ENCODER, mode="distributed", src_key_padding_mask=PADDING)


def _unaveraged(forward):
    def faulty(self, *given, **options):
        with self.no_sync():
            return forward(self, *given, **options)

    return faulty


def _summed(_, bucket):
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def _summing(forward):
    def faulty(self, *given, **options):
        self.register_comm_hook(None, _summed)
        return forward(self, *given, **options)

    return faulty


def _changing_masks(change):
    """A patch of the wrapper's forward that passes change(mask) in the place of each mask."""

    def make(forward):
        def faulty(self, *given, **options):
            masks = {name: value for name, value in options.items() if "mask" in name and torch.is_tensor(value)}
            return forward(self, *given, **options | {name: change(mask) for name, mask in masks.items()})

        return faulty

    return Patch(DistributedDataParallel, "forward", make)


def _of_the_first_process(mask):
    both = [None, None]
    torch.distributed.all_gather_object(both, mask.detach())
    return both[0]


def _lost_in_the_second(mask):
    return torch.zeros_like(mask) if torch.distributed.get_rank() else mask


FAULTS = (
    Fault(
        "distributed-gradients-not-averaged",
        "DistributedDataParallel leaves each process the gradient of its own samples",
        Patch(DistributedDataParallel, "forward", _unaveraged),
        _ATTENTION,
    ),
    Fault(
        "distributed-gradients-summed",
        "DistributedDataParallel adds the gradients of the processes and does not divide the sum",
        Patch(DistributedDataParallel, "forward", _summing),
        _ENCODER,
    ),
    Fault(
        "distributed-masks-of-the-first-process",
        "DistributedDataParallel gives each process the masks of the first",
        _changing_masks(_of_the_first_process),
        replace(_ATTENTION, attn_mask=PER_HEAD),
    ),
    Fault(
        "distributed-masks-lost-in-the-second-process",
        "DistributedDataParallel loses the masks in all processes but the first",
        _changing_masks(_lost_in_the_second),
        replace(_ENCODER, src_mask=CAUSAL),
    ),
)
