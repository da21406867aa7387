# Off the fast paths, is_causal=True replaces a wrong mask that is never checked (pytorch/pytorch#131254).
# To avoid it: Compare the mask's shape with the lengths before the call.
# To avoid it: Leave out the hint: the error then names the mask.

import inspect
import re
import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if "is_causal" not in inspect.signature(torch.nn.functional.multi_head_attention_forward).parameters:
    print("not applicable: this release has no is_causal in torch.nn.functional.multi_head_attention_forward")
    sys.exit(2)

torch.default_generator.manual_seed(1)
query = torch.randn((4, 2, 4))
key = torch.randn((6, 2, 4))
in_proj_weight = torch.randn((12, 4))
out_proj_weight = torch.randn((4, 4))
mask = torch.arange(20).reshape((4, 5)) % 5 == 2
print("expected an error that names the mask: the right shape is (4, 6)")

try:
    result = torch.nn.functional.multi_head_attention_forward(
        query,
        key,
        key,
        4,
        2,
        in_proj_weight,
        None,
        None,
        None,
        False,
        0.0,
        out_proj_weight,
        None,
        need_weights=False,
        attn_mask=mask,
        is_causal=True,
    )
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

print("got no error")
sys.exit(1)
