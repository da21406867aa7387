"""torchaudio's Conformer on a padded batch."""

import torch
from torchaudio.models import Conformer

torch.manual_seed(0)
model = Conformer(input_dim=32, num_heads=4, ffn_dim=64, num_layers=3, depthwise_conv_kernel_size=7)
frames, lengths = torch.randn(3, 20, 32), torch.tensor([20, 14, 9])
with torch.no_grad():
    model.eval()(frames, lengths)
model.train()(frames, lengths)[0].sum().backward()
