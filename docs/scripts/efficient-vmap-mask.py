# On CUDA a mask raises under torch.func.vmap over query, key and value alone (pytorch/pytorch#161310).
# To avoid it: Make the call without torch.func.vmap (cost: speed; not tested: needs a GPU).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", torch.cuda.get_device_name())

if not hasattr(torch, "func"):
    print("not applicable: this release has no torch.func")
    sys.exit(2)

if torch.__version__ < "2.0":
    print("not applicable: this release has no such call, only 2.0 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=4, num_heads=1, batch_first=True, device="cuda")
state = {
    "in_proj_weight": [
        [0.051, -0.49, -0.409, -0.514],
        [-0.287, 0.986, 0.197, -0.001],
        [-1.338, 0.971, 0.01, -1.131],
        [0.037, 0.108, 0.611, 0.015],
        [-0.637, 0.113, -0.193, -0.705],
        [0.152, 0.687, 0.491, -0.284],
        [-0.992, -0.411, -0.817, -0.032],
        [0.466, 1.519, 0.15, -0.601],
        [-0.109, 0.228, -0.005, -0.064],
        [0.039, 0.581, -0.225, -0.145],
        [-0.338, 0.065, 0.774, 0.155],
        [0.854, 0.308, 0.622, 0.524],
    ],
    "out_proj.weight": [
        [0.211, 0.184, -1.017, 0.225],
        [0.176, -0.316, -0.365, 0.32],
        [0.375, -0.558, -0.039, -0.058],
        [0.352, -0.704, -0.642, -0.255],
    ],
    "in_proj_bias": [-0.152, -0.249, 0.768, -1.591, 0.301, -0.083, 0.094, -0.315, 0.104, -0.081, 0.576, -0.17],
    "out_proj.bias": [1.22, -0.292, -0.71, 0.461],
}
module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
module.eval()
def twice(*given, **options):
    mapped = {name: value for name, value in options.items() if isinstance(value, torch.Tensor) and 'mask' not in name}
    others = {name: value for name, value in options.items() if name not in mapped}
    unmapped = [*others.values(), *getattr(module, "parameters", tuple)()]
    learns = torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in unmapped)

    def pair(tensor):  # adds other contents: rolled rows, so that other positions are hidden
        other = tensor.detach()
        if learns:  # the same positions, as NaN of the other contents would reach gradients of what is not mapped
            other = other / 2 if other.is_floating_point() else other
        else:
            other = other.roll(1, -2) if other.ndim > 1 and other.shape[-2] > 1 else other.roll(1)
        return torch.stack([other, tensor], 0)

    def once(mapped, sequences):
        results = module(*(sequences[id(tensor)] for tensor in given), **mapped, **others)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    pairs = {name: pair(value) for name, value in mapped.items()}
    sequences = {id(tensor): pair(tensor) for tensor in given}  # identity marks self-attention
    results = torch.func.vmap(once, in_dims=(0, 0))(pairs, sequences)
    return tuple(result[1] for result in results) if type(results) is tuple else results[1]

query = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]], device="cuda")
key = torch.tensor([[[-0.536, 0.362, 1.304, 0.947]]], device="cuda")
value = torch.tensor([[[-0.704, -1.265, -0.623, 0.041]]], device="cuda")

attn_mask = torch.tensor([[0.0]], device="cuda")

with torch.no_grad():
    output = twice(query, key, value, attn_mask=attn_mask, need_weights=False)
    output = output if torch.is_tensor(output) else output[0]

expected = torch.tensor([[[0.46312, -0.66875, -0.27589, 1.14761]]], device="cuda")
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=2e-05)

sys.exit(bool(wrong))
