"""A DETR-like decoder made of nn.TransformerDecoder: object queries attend to a padded memory."""

import torch
from torch import nn

torch.manual_seed(0)
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 64, batch_first=True), 2)
features, queries = torch.randn(2, 25, 32), torch.randn(1, 7, 32).expand(2, 7, 32)
padding = torch.arange(25) >= torch.tensor([25, 15])[:, None]
with torch.no_grad():
    memory = encoder.eval()(features, src_key_padding_mask=padding)
    decoder.eval()(queries, memory, memory_key_padding_mask=padding)
    decoder(queries, memory)  # the padding of the memory is forgotten
