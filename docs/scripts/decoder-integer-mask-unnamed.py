# nn.TransformerDecoder refuses an integer tgt_mask without naming it.
# To avoid it: Give the mask as bool (cost: a bool mask can only hide).

import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

torch.default_generator.manual_seed(0)
module = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(4, 2, 4, dropout=0.0, batch_first=True), 1)
torch.default_generator.manual_seed(1)
tgt = torch.randn((2, 4, 4))
memory = torch.randn((2, 6, 4))
mask = (torch.arange(16).reshape((4, 4)) % 5 == 2).to(torch.int64)
module.train()
print("expected an error that names the mask: the right shape is (4, 4)")

try:
    result = module(tgt, memory, tgt_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias|tgt_mask)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
