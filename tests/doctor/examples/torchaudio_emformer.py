"""torchaudio's Emformer, a streaming model that computes its attention itself."""

import torch
from torchaudio.models import Emformer

torch.manual_seed(0)
model = Emformer(input_dim=32, num_heads=4, ffn_dim=64, num_layers=2, segment_length=4, right_context_length=1)
with torch.no_grad():
    model.eval()(torch.randn(3, 21, 32), torch.tensor([20, 14, 9]))
