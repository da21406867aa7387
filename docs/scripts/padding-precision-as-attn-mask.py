# A float padding mask of another precision is refused as an attn_mask.
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

torch.default_generator.manual_seed(1)
query = torch.randn((4, 2, 4))
key = torch.randn((6, 2, 4))
in_proj_weight = torch.randn((12, 4))
out_proj_weight = torch.randn((4, 4))
mask = torch.randn((2, 6), dtype=torch.float64).masked_fill(torch.arange(12).reshape((2, 6)) % 5 == 2, -torch.inf)
print("expected an error that names the mask: the right shape is (2, 6)")

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
        key_padding_mask=mask,
    )
except Exception as error:
    print("got", type(error).__name__, error)
    sys.exit(not re.search(r"(?<![\w:])(masks?|key_padd(ing|ed)_mask|key_padding_mask)(?!\w)", str(error), re.IGNORECASE))

expected = torch.tensor(
    [
        [
            [-3.191327987297731, 2.446588108030878, -3.5512919832972214, 12.377682101742662],
            [2.7776798107956666, 5.655262644644755, 7.312625236825397, 5.347539172792573],
        ],
        [
            [-1.3546787026406666, -0.22114083256738096, -1.6773671041336546, 2.7429470993190384],
            [-1.0786967312465143, -1.4082281457942596, -4.924794091477532, 5.189874355356444],
        ],
        [
            [-1.0854516314234341, -3.3152049428187693, -3.1264314873135333, -4.5129065953826135],
            [-4.536783102923226, 3.2381903107296885, -5.806329604092873, 16.794412297826504],
        ],
        [
            [-4.750465755345966, 5.57067318226527, 0.7307355286198173, 10.622209280980684],
            [1.4304694837273704, 1.9931910719214516, -1.3689477336459683, 11.732208860010312],
        ],
    ],
    dtype=torch.float32,
)
error = (result[0] - expected).abs().max().item()
print("got a result that is off by", error)
sys.exit(not error <= 0.000171)
