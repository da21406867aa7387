# With causal_lower_right fully masked queries are not 0 on CUDA (pytorch/pytorch#193632).
# To avoid it: Give the mask itself as attn_mask (cost: memory for the mask; not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if torch.__version__ < "2.3":
    print("not applicable: this release has no such call, only 2.3 and later have")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
from torch.nn.attention import bias

def biased(*given, **options):
    L, S = given[0].shape[-2], given[-1].shape[-2]
    attn_mask, is_causal = options.get("attn_mask"), options.get("is_causal", False)
    if (is_causal if L == S else attn_mask is not None and attn_mask.shape == (L, S)
            and (attn_mask == torch.ones_like(attn_mask).tril(S - L)).all()):
        options = {**options, "attn_mask": bias.causal_lower_right(L, S)}
        options.pop("is_causal", None)
    return module(*given, **options)

query = torch.tensor([[[[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947]]]], device="cuda")
key = torch.tensor([[[[-0.704, -1.265, -0.623, 0.041]]]], device="cuda")
value = torch.tensor([[[[-2.325, -0.219, -1.246, -0.732]]]], device="cuda")

attn_mask = torch.tensor([[False], [True]], device="cuda")

with torch.no_grad():
    output = biased(query, key, value, attn_mask=attn_mask)

expected = torch.tensor([[[[0.0, 0.0, 0.0, 0.0], [-2.325, -0.219, -1.246, -0.732]]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=3e-05)
wrong = wrong or output[expected == 0].any()

sys.exit(bool(wrong))
