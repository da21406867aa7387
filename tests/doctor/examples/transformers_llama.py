"""Hugging Face's Llama with scaled_dot_product_attention, grouped heads, left padding and a cache of keys."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=50, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=64, attn_implementation="sdpa", pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
model = LlamaForCausalLM(config).eval()
tokens, mask = torch.randint(3, 50, (3, 12)), (torch.arange(12) >= torch.tensor([0, 3, 8])[:, None]).long()
with torch.no_grad():
    model(tokens)
    model.generate(tokens, attention_mask=mask, max_new_tokens=5, do_sample=False)
model.train()(tokens, attention_mask=mask, labels=tokens).loss.backward()
model.to(torch.bfloat16).eval()(tokens, attention_mask=mask)
