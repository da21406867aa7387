# nn.TransformerEncoder drops trailing positions that are padding in every sample (pytorch/pytorch#97111).
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.5 if no query is fully masked; cost:
#     speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.5 if no query
#     is fully masked; cost: speed and memory: the call is recorded).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
state = {
    "layers.0.self_attn.in_proj_weight": [
        [0.267, 0.621, 0.091, 0.109],
        [0.284, 0.116, -0.424, 0.175],
        [0.311, -0.261, 0.146, 0.367],
        [0.481, -0.209, 0.075, -0.029],
        [0.219, 0.552, -0.881, -0.469],
        [-0.408, -0.208, -0.184, 0.192],
        [-0.848, -0.045, 1.062, 0.82],
        [0.589, 0.771, 0.433, -0.517],
        [0.521, 0.531, 0.746, 0.497],
        [0.281, 0.571, 0.334, -0.763],
        [0.226, -0.003, -0.561, -0.641],
        [-0.28, 0.046, 0.131, -0.39],
    ],
    "layers.0.self_attn.out_proj.weight": [
        [0.522, 0.297, -0.009, -0.487],
        [0.276, 0.79, 0.056, 0.289],
        [0.491, -0.316, 0.1, -0.271],
        [-1.075, 0.189, -0.95, -0.419],
    ],
    "layers.0.self_attn.in_proj_bias": [
        0.437, -0.339, -0.004, -0.315, -0.186, 0.214, 0.172, 0.569, 0.746, -0.263, -0.254, 0.141,
    ],
    "layers.0.self_attn.out_proj.bias": [0.403, 0.062, -0.577, -0.101],
    "layers.0.linear1.weight": [[0.024, 0.283, 0.092, -0.1]],
    "layers.0.linear2.weight": [[1.157], [0.799], [-0.012], [0.489]],
    "layers.0.linear1.bias": [0.325],
    "layers.0.linear2.bias": [0.044, 0.239, -0.153, -1.151],
    "layers.0.norm1.weight": [0.467, 1.161, 1.096, 0.754],
    "layers.0.norm1.bias": [0.124, 0.236, -0.261, 0.441],
    "layers.0.norm2.weight": [0.982, 1.318, 0.85, 0.952],
    "layers.0.norm2.bias": [-0.707, -0.71, -0.251, -0.701],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

src = torch.tensor(
    [[[0.346, 0.822, 0.33, -1.303], [0.905, 0.446, -0.537, 0.581], [0.365, 0.294, 0.028, 0.547]]], dtype=torch.float64
)

src_key_padding_mask = torch.tensor([[False, False, True]])

with torch.no_grad():
    output = module(src, src_key_padding_mask=src_key_padding_mask)

expected = torch.tensor(
    [
        [
            [-0.02086193023478, 0.86643636064958, -0.73483713346979, -1.96294930172348],
            [0.16217686484801, 0.74726579961106, -1.16422369275584, -1.57340566002494],
            [0.11517391137625, 0.80045555178241, -1.01110778630497, -1.73774776227878],
        ],
    ],
    dtype=torch.float64,
)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=4e-14)

sys.exit(bool(wrong))
