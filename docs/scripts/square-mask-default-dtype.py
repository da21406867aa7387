# nn.Transformer.generate_square_subsequent_mask ignores the default dtype (pytorch/pytorch#137186).
# To avoid it: Give torch.get_default_dtype() as dtype.
# To avoid it: Use PyTorch 2.6, or a later release.

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

torch.set_default_dtype(torch.float64)
mask = torch.nn.Transformer.generate_square_subsequent_mask(1)

print("expected torch.float64 on cpu, got", mask.dtype, "on", mask.device.type)
wrong = (mask.dtype, mask.device.type) != (torch.float64, "cpu")
wrong = wrong or mask.shape != (1, 1)

expected = [[0.0]]
got = mask.tolist() if mask.device.type != "meta" else None
print("expected", expected)
print("got", got)
wrong = wrong or got != expected

sys.exit(wrong)
