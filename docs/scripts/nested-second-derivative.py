# nn.TransformerEncoder with padding has no second derivative in eval mode.
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length, and use
#     the math backend alone (if the input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no
#     query is fully masked; cost: speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad(), and use the
#     math backend alone (if masks are bool or of the inputs' dtype, and no query has every key masked by a number such
#     as -1e9; before 2.5 if no query is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first, and use the math backend alone (from 2.3; if
#     masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost: global: every module of the
#     process leaves its fast path, which is slower).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=2, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 2)
state = {
    "layers.0.self_attn.in_proj_weight": [
        [-0.289, 0.385],
        [-0.166, 0.362],
        [0.439, 0.483],
        [0.803, 0.431],
        [-0.085, -1.416],
        [-0.151, 0.229],
    ],
    "layers.0.self_attn.out_proj.weight": [[0.364, 0.558], [0.328, 0.658]],
    "layers.0.self_attn.in_proj_bias": [0.576, 0.959, -0.65, -0.458, -1.007, 0.104],
    "layers.0.self_attn.out_proj.bias": [-0.104, 0.251],
    "layers.0.linear1.weight": [[-0.412, -0.623]],
    "layers.0.linear2.weight": [[-0.908], [0.4]],
    "layers.0.linear1.bias": [0.368],
    "layers.0.linear2.bias": [-0.174, -0.003],
    "layers.0.norm1.weight": [0.807, 0.716],
    "layers.0.norm1.bias": [-0.312, 0.104],
    "layers.0.norm2.weight": [0.903, 1.456],
    "layers.0.norm2.bias": [-0.254, 0.876],
    "layers.1.self_attn.in_proj_weight": [
        [-0.89, 1.331],
        [-1.043, 0.453],
        [1.165, -0.692],
        [0.176, -0.224],
        [-0.046, 0.277],
        [-1.019, -1.12],
    ],
    "layers.1.self_attn.out_proj.weight": [[-0.335, 0.34], [0.436, -0.232]],
    "layers.1.self_attn.in_proj_bias": [-0.179, -0.406, 0.623, 0.615, -0.453, -0.335],
    "layers.1.self_attn.out_proj.bias": [-0.115, 0.167],
    "layers.1.linear1.weight": [[0.219, 0.433]],
    "layers.1.linear2.weight": [[-0.423], [-0.793]],
    "layers.1.linear1.bias": [0.274],
    "layers.1.linear2.bias": [0.987, -0.106],
    "layers.1.norm1.weight": [1.271, 0.512],
    "layers.1.norm1.bias": [-0.524, 0.548],
    "layers.1.norm2.weight": [0.557, 0.9],
    "layers.1.norm2.bias": [0.571, -0.579],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()
module.requires_grad_(False)
module.get_parameter("layers.1.linear1.weight").requires_grad_()

src = torch.tensor([[[-0.652, -0.175], [1.664, 0.659]], [[-1.641, -0.005], [-0.623, 0.149]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[True, True], [False, False]])

leaves = {"layers.1.linear1.weight": module.get_parameter("layers.1.linear1.weight")}
directions = {"layers.1.linear1.weight": [-2.625, 1.277]}
cotangent_of_output = torch.tensor(
    [[[-0.384, -0.071], [0.202, -0.307]], [[1.478, 1.284], [-0.853, 0.07]]], dtype=torch.float64
)

try:
    output = module(src, src_key_padding_mask=src_key_padding_mask)
    gradients = torch.autograd.grad(
        output, list(leaves.values()), cotangent_of_output, allow_unused=True, create_graph=True
    )
    along = [leaf.new_tensor(directions[name]).view_as(leaf) for name, leaf in leaves.items()]
    sums = [(gradient * its).sum() for gradient, its in zip(gradients, along) if gradient is not None and gradient.requires_grad]
    second = [None] * len(leaves)
    if sums:
        second = torch.autograd.grad(sum(sums), list(leaves.values()), allow_unused=True)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

slopes = {"layers.1.linear1.weight": -2.23484102e-5}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 2e-13

sys.exit(bool(wrong))
