# Under autocast on CUDA the weights are float32, but the output is not.
# To avoid it: Make the call without torch.autocast (cost: speed and memory; not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, device="cuda")
state = {
    "in_proj_weight": [[0.103], [-0.981], [-0.817]],
    "out_proj.weight": [[-1.028]],
    "in_proj_bias": [-0.287, 0.986, 0.197],
    "out_proj.bias": [-0.001],
}
module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
module.eval()

query = torch.tensor([[[0.126]]], device="cuda")
key = torch.tensor([[[-0.132]]], device="cuda")
value = torch.tensor([[[0.64]]], device="cuda")

with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
    output, weights = module(query, key, value)

expected = torch.tensor([[[0.33]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape or output.dtype != torch.bfloat16
wrong = wrong or not torch.allclose(output.float(), expected, rtol=0, atol=0.03)

expected_weights = torch.tensor([[[1.0]]], device="cuda")
print("expected weights", expected_weights)
print("got weights", weights)
wrong = wrong or weights is None or weights.shape != expected_weights.shape or weights.dtype != torch.bfloat16
wrong = wrong or not torch.allclose(weights.float(), expected_weights, rtol=0, atol=0.03)

sys.exit(bool(wrong))
