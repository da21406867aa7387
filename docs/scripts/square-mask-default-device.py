# nn.Transformer.generate_square_subsequent_mask ignores the default device (pytorch/pytorch#137186).
# To avoid it: Give the name of the default device as device.
# To avoid it: Use PyTorch 2.6, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "set_default_device"):
    print("not applicable: this release has no torch.set_default_device")
    sys.exit(2)

torch.set_default_device("meta")
mask = torch.nn.Transformer.generate_square_subsequent_mask(1)

print("expected torch.float32 on meta, got", mask.dtype, "on", mask.device.type)
wrong = (mask.dtype, mask.device.type) != (torch.float32, "meta")
wrong = wrong or mask.shape != (1, 1)

sys.exit(wrong)
