"""nn.Transformer as the tutorials use it: a causal target mask, and padding of source, target and memory."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
source, target = torch.randn(3, 10, 32), torch.randn(3, 7, 32)
source_padding = torch.arange(10) >= torch.tensor([10, 8, 5])[:, None]
target_padding = torch.arange(7) >= torch.tensor([7, 6, 4])[:, None]
causal = torch.ones(7, 7).triu(1).bool()
paddings = {"src_key_padding_mask": source_padding, "tgt_key_padding_mask": target_padding}
with torch.no_grad():
    model.eval()(source, target, tgt_mask=causal, memory_key_padding_mask=source_padding, **paddings)
    model(source, target, tgt_mask=causal, **paddings)  # the padding of the memory is forgotten
