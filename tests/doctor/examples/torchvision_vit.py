"""torchvision's Vision Transformer, in eval and in training mode."""

import torch
from torchvision.models import VisionTransformer

torch.manual_seed(0)
model = VisionTransformer(
    image_size=64, patch_size=16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
)
images = torch.randn(2, 3, 64, 64)
with torch.no_grad():
    model.eval()(images)
model.train()(images).sum().backward()
