# nn.TransformerEncoder raises NotImplementedError for a nested src given with src_key_padding_mask.
# To avoid it: Give no padding mask (if padding comes last, autograd records nothing, and there is no other mask and no
#     final norm, and the activation is not nn.GELU(approximate='tanh'); before 2.3 if layers have biases).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "nested"):
    print("not applicable: this release has no torch.nested")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=2, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()
def packed(*given, **options):
    size, padding = given[0].shape[-2], None
    if isinstance(module, torch.nn.Module):
        padding = options.get("key_padding_mask", options.get("src_key_padding_mask", None))
    elif "attn_mask" in options and options["attn_mask"].ndim == given[0].ndim:
        padding = ~options.pop("attn_mask").flatten(1)

    def lengths(tensor):
        is_padded = padding is not None and padding.shape[-1] == tensor.shape[-2]
        return (~padding).sum(-1).tolist() if is_padded else [tensor.shape[-2]] * len(tensor)

    def nested(tensor):
        samples = [sample[..., :length, :] for sample, length in zip(tensor, lengths(tensor))]
        return torch.nested.as_nested_tensor(samples)

    def padded(result):
        if not result.is_nested:  # weights have the size of the longest sample
            missing = size - result.shape[-1]
            return torch.nn.functional.pad(result, (0, missing, 0, missing))
        samples = result.unbind()
        return torch.stack([torch.nn.functional.pad(sample, (0, 0, 0, size - sample.shape[-2])) for sample in samples])

    its = {id(tensor): nested(tensor) for tensor in given}  # identity marks self-attention
    results = module(*(its[id(tensor)] for tensor in given), **options)
    if type(results) is tuple:
        return tuple(None if result is None else padded(result) for result in results)
    return padded(results)

src = torch.tensor([[[0.126, -0.132], [0.64, 0.105]], [[-0.536, 0.362], [1.304, 0.947]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[False, False], [False, True]])

try:
    with torch.no_grad():
        packed(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
