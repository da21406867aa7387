"""Hugging Face's DETR decoder layers on padded images: attention to a memory with padding."""

import torch
from transformers import DetrConfig, DetrModel, ResNetConfig

torch.manual_seed(0)
backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
config = DetrConfig(
    use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=32,
    encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
    decoder_ffn_dim=64, num_queries=7, )  # fmt: skip
config._attn_implementation = {"backbone_config": "eager", "": "sdpa"}
model = DetrModel(config).eval()
pixels = torch.ones(2, 64, 64, dtype=torch.long)
pixels[1, :, 40:] = 0
with torch.no_grad():
    model(torch.randn(2, 3, 64, 64), pixel_mask=pixels)
