# A float mask of another precision is refused without naming it if weights are computed.
# To avoid it: Give the mask as mask.to(query.dtype).
# To avoid it: Give the mask as bool (cost: a bool mask can only hide).

import re
import sys

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

torch.manual_seed(0)
if torch.empty(16).bernoulli_().tolist() != [0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1]:
    print("not applicable: this release has no generator of the same random numbers")
    sys.exit(2)

torch.default_generator.manual_seed(0)
module = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.default_generator.manual_seed(1)
src = torch.randn((2, 6, 4))
mask = torch.randn((6, 6), dtype=torch.float64).masked_fill(torch.arange(36).reshape((6, 6)) % 5 == 2, -torch.inf)
module.train()
print("expected an error that names the mask: the right shape is (6, 6)")

try:
    result = module(src, src, src, attn_mask=mask)
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|attn_mask|CausalBias)(?!\w)", str(error), re.IGNORECASE))

expected = torch.tensor(
    [
        [
            [0.33947732482829907, 0.043807086178327966, 0.141578602747766, -0.13011490995236802],
            [-0.3242674525058733, 0.1720726920668759, -0.09425930895568725, 0.018897035941298032],
            [0.039350477619437996, -0.06597710099249016, 0.009043181832491498, 0.005268988306141863],
            [0.056678558436603375, -0.12128173954251824, 0.0061183625816526865, 0.12414061994398261],
            [-0.2786843250131494, 0.17548552336531273, -0.0754900748196439, -0.005325233024309045],
            [0.18995688723944815, -0.15902976390470314, 0.049517881084475905, 0.19379407849838415],
        ],
        [
            [0.03651122047778552, 0.02446284763325449, 0.019333164557683233, -0.1134534172192269],
            [-0.08703636786808797, 0.09670415713469786, -0.04630888978820816, -0.5975602898218604],
            [-0.024884221569297215, 0.09072532212727896, 0.0032734931842348888, -0.20564001642792015],
            [0.01773242807507868, 0.12268619499288844, 0.025911108196008885, -0.38470626006285463],
            [-0.09647168623087803, 0.11208717133981233, -0.04763060441833587, -0.6281143616982056],
            [-0.10044864684948962, 0.14834624738863908, -0.005048561674300363, -0.4862288395692702],
        ],
    ],
    dtype=torch.float32,
)
error = (result[0] - expected).abs().max().item()
print("got a result that is off by", error)
sys.exit(not error <= 7.02e-06)
