# A query that sees none of the first 512 keys gets NaN (pytorch/pytorch#127055).
# To avoid it: Use PyTorch 2.4.1, or a later release.
# To avoid it: Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3
#     within torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False) (from 2.0; if the call is
#     not compiled, exported, cast or transformed; cost: speed and memory: every score is kept).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True, dtype=torch.float64)
state = {
    "in_proj_weight": [[-0.557], [-1.453], [-0.541]],
    "out_proj.weight": [[-0.55]],
    "in_proj_bias": [0.088, 0.166, -0.143],
    "out_proj.bias": [-0.801],
}
module.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
module.eval()

query = torch.tensor([[[1.102]]], dtype=torch.float64)
key = torch.tensor(
    [
        [
            [0.507], [-0.817], [-0.238], [-1.981], [0.285], [-1.076], [2.285], [0.225], [-0.836], [0.123], [0.521],
            [-1.073], [-1.161], [0.567], [2.911], [0.02], [0.198], [0.832], [0.379], [-0.684], [0.51], [-0.691],
            [-0.167], [-0.232], [-0.347], [0.793], [0.068], [0.693], [0.608], [0.121], [-0.646], [2.424], [1.399],
            [0.028], [-2.854], [0.699], [1.266], [-1.688], [0.941], [1.19], [-1.995], [0.213], [0.157], [-1.333],
            [1.76], [-0.725], [0.439], [-0.482], [1.744], [-1.243], [1.093], [0.092], [-0.632], [-0.359], [0.152],
            [-0.868], [-0.634], [-0.859], [0.77], [0.008], [-2.169], [-1.083], [-1.019], [0.371], [1.124], [0.442],
            [-0.439], [-1.041], [0.574], [-0.816], [2.031], [1.527], [1.098], [-0.721], [1.703], [0.058], [0.936],
            [1.021], [-1.465], [-0.099], [0.795], [-0.638], [-1.949], [-0.636], [0.29], [-0.235], [0.478], [0.261],
            [0.905], [-1.533], [0.126], [0.327], [-1.242], [-1.082], [0.665], [1.0], [0.249], [-1.008], [0.182],
            [1.579], [-0.274], [-1.154], [-0.583], [0.947], [0.085], [-1.021], [-1.326], [0.646], [0.224], [1.225],
            [0.119], [-0.578], [0.457], [0.578], [0.383], [-0.155], [-0.152], [-2.742], [-1.572], [-0.714], [-0.787],
            [0.15], [-0.361], [1.2], [-0.406], [0.491], [0.327], [1.365], [-0.181], [0.758], [0.515], [-0.816],
            [-0.476], [0.218], [-0.648], [0.658], [0.67], [0.82], [-0.102], [-0.418], [0.551], [0.185], [-1.513],
            [-0.652], [0.842], [-0.176], [-0.018], [0.967], [1.942], [-2.098], [-0.237], [0.107], [1.038], [-0.881],
            [0.708], [-0.215], [0.136], [-0.397], [-0.319], [1.042], [2.407], [1.988], [-0.963], [-1.946], [-1.727],
            [0.357], [-0.237], [0.885], [0.451], [-0.574], [0.178], [0.047], [0.038], [-0.424], [-1.522], [0.604],
            [-0.522], [-0.172], [1.309], [1.513], [1.523], [-0.136], [-0.915], [-0.584], [0.613], [0.153], [-1.057],
            [-0.151], [1.123], [2.312], [1.353], [0.013], [0.9], [0.288], [-0.465], [1.641], [0.689], [0.164],
            [0.059], [-0.012], [0.602], [-1.126], [-1.284], [-0.952], [0.16], [0.677], [-1.027], [1.107], [-1.902],
            [-0.713], [-0.659], [-0.58], [0.621], [-0.386], [0.738], [0.344], [1.081], [-0.968], [-0.223], [0.207],
            [0.437], [-1.463], [0.4], [-1.08], [-0.509], [-1.855], [-0.093], [0.342], [-0.832], [1.142], [-2.487],
            [0.545], [0.258], [-1.571], [-0.856], [1.033], [-0.987], [-0.046], [0.051], [0.099], [0.611], [1.445],
            [-0.464], [0.025], [-0.657], [1.401], [-1.329], [0.176], [-1.253], [-0.814], [0.414], [-1.032], [-0.095],
            [1.215], [0.28], [0.217], [-1.203], [0.172], [-0.945], [0.59], [0.063], [1.508], [-0.641], [0.764],
            [-2.787], [-1.123], [-0.77], [-0.765], [0.036], [-1.843], [-1.631], [-2.558], [0.032], [-0.787], [0.094],
            [0.168], [0.231], [-0.229], [-0.001], [0.353], [-1.17], [0.95], [1.429], [-0.024], [-1.103], [-0.328],
            [0.839], [1.983], [2.985], [-0.007], [-2.129], [-1.667], [-1.871], [-0.635], [0.546], [-0.078], [0.146],
            [-0.386], [0.575], [1.912], [1.24], [0.02], [-0.11], [1.531], [-0.179], [0.786], [1.658], [0.563],
            [-0.856], [-1.208], [2.381], [0.53], [-0.085], [-1.2], [2.425], [0.201], [-1.552], [1.174], [0.413],
            [-1.176], [-0.74], [-0.997], [-0.498], [-1.308], [-0.043], [1.12], [2.005], [1.94], [-1.517], [0.009],
            [-0.44], [0.792], [0.972], [-1.82], [1.095], [1.813], [0.514], [0.777], [0.806], [1.394], [0.521],
            [0.924], [0.31], [-2.745], [-0.472], [-1.094], [1.458], [-0.831], [1.466], [-0.417], [-0.096], [-1.22],
            [-0.685], [1.511], [-1.083], [1.578], [-0.365], [0.319], [0.779], [0.463], [0.396], [0.364], [0.553],
            [-0.101], [0.086], [0.896], [-2.32], [1.56], [0.437], [-1.689], [-0.094], [0.382], [-0.979], [-0.058],
            [0.079], [-0.252], [-0.431], [-0.015], [-0.612], [-0.237], [-0.626], [1.454], [0.53], [0.475], [-0.86],
            [1.384], [-0.211], [-1.966], [0.482], [-1.351], [1.997], [0.558], [0.476], [0.799], [-0.279], [-1.234],
            [-1.484], [0.083], [-0.37], [0.317], [-0.055], [0.43], [-1.111], [-0.213], [-1.1], [-0.203], [0.355],
            [-0.82], [1.737], [0.288], [-1.965], [-0.186], [-0.156], [0.437], [0.799], [-0.109], [0.373], [-0.086],
            [1.344], [0.758], [-1.851], [-1.799], [-1.197], [0.954], [-0.137], [0.345], [0.518], [-0.051], [-1.616],
            [1.357], [0.497], [0.396], [-0.451], [-0.616], [-0.512], [0.389], [0.414], [2.384], [-0.38], [1.339],
            [-1.587], [-0.606], [0.543], [0.92], [-0.133], [-1.694], [-0.289], [-1.618], [1.218], [-0.868], [1.015],
            [0.688], [-0.089], [0.799], [0.41], [-1.652], [-0.072], [-0.354], [-0.065], [0.309], [-0.594], [2.929],
            [1.692], [-1.107], [-0.637], [-0.566], [0.408], [0.306], [-0.118], [1.033], [-1.964], [0.147], [0.025],
            [-1.9], [0.623], [0.161], [1.377], [0.735], [-2.72], [0.885], [0.623], [0.199], [1.096], [1.834],
            [-1.113], [-0.282], [0.88], [0.793], [-1.575], [0.566], [-1.771], [2.079], [0.053], [-0.006], [-1.104],
            [1.438], [0.825], [0.484], [0.956], [-0.688], [-0.998], [0.825], [-0.755], [-0.948], [1.528], [0.588],
            [-0.92], [-0.776], [0.053], [-0.068], [0.617], [-1.053], [0.016],
        ],
    ],
    dtype=torch.float64,
)

key_padding_mask = torch.tensor(
    [
        [
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True, True,
            True, True, False,
        ],
    ],
)

with torch.no_grad():
    output, _ = module(query, key, key, key_padding_mask=key_padding_mask, need_weights=False)

expected = torch.tensor([[[-0.7175892]]], dtype=torch.float64)
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=7e-14)

sys.exit(bool(wrong))
