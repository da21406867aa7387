# A dynamically quantized nn.TransformerEncoderLayer raises in eval mode (pytorch/pytorch#109987).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.5 if no query is fully masked; cost: global: every module of the process leaves its fast path,
#     which is slower).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.ao.quantization, "quantize_dynamic"):
    print("not applicable: this release has no torch.ao.quantization.quantize_dynamic")
    sys.exit(2)

module = torch.nn.TransformerEncoderLayer(d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True)
module.eval()
quantize = torch.ao.quantization.quantize_dynamic
quantized = quantize(module, {torch.nn.Linear}, dtype=torch.qint8).train(module.training)

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]])

try:
    with torch.no_grad():
        quantized(src)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
