"""torchvision's Swin Transformer, which computes its attention itself."""

import torch
from torchvision.models.swin_transformer import SwinTransformer

torch.manual_seed(0)
model = SwinTransformer(
    patch_size=[4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10
)
with torch.no_grad():
    model.eval()(torch.randn(2, 3, 64, 64))
