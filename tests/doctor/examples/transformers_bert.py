"""Hugging Face's BERT with scaled_dot_product_attention, on a batch with right and with left padding."""

import torch
from transformers import BertConfig, BertModel

torch.manual_seed(0)
config = BertConfig(
    vocab_size=50, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
    attn_implementation="sdpa",
)  # fmt: skip
model = BertModel(config)
tokens, mask = torch.randint(0, 50, (3, 12)), (torch.arange(12) < torch.tensor([12, 9, 4])[:, None]).long()
with torch.no_grad():
    model.eval()(tokens, attention_mask=mask)
    model(tokens, attention_mask=mask.flip(1))
    model(tokens)
