# scaled_dot_product_attention raises for a mask of one dimension or none.
# To avoid it: Give the mask two dimensions: mask[None] (if the mask is (S,); before 2.5 if no query is fully masked).
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; before 2.5 if no query is fully masked; cost: speed and memory: every
#     score is kept).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

query = torch.tensor([[[[0.12597656]]]], dtype=torch.bfloat16)
key = torch.tensor([[[[-0.13183594], [0.640625]]]], dtype=torch.bfloat16)
value = torch.tensor([[[[0.10498047], [-0.53515625]]]], dtype=torch.bfloat16)

attn_mask = torch.tensor([False, True])

try:
    with torch.no_grad():
        torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
