# The backward pass of to_padded_tensor raises for a jagged tensor with heads before positions.
# To avoid it: Transpose the result before it is padded: torch.nested.to_padded_tensor(result.transpose(1, 2),
#     0.0).transpose(1, 2).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch, "nested"):
    print("not applicable: this release has no torch.nested")
    sys.exit(2)

if torch.__version__ < "2.7":
    print("not applicable: this release has no such call, only 2.7 and later have")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
def packed(*given, **options):
    size, padding = given[0].shape[-2], None
    if isinstance(module, torch.nn.Module):
        padding = options.pop("key_padding_mask", options.pop("src_key_padding_mask", None))
    elif "attn_mask" in options and options["attn_mask"].ndim == given[0].ndim:
        padding = ~options.pop("attn_mask").flatten(1)

    def lengths(tensor):
        is_padded = padding is not None and padding.shape[-1] == tensor.shape[-2]
        return (~padding).sum(-1).tolist() if is_padded else [tensor.shape[-2]] * len(tensor)

    def nested(tensor):
        samples = [sample[..., :length, :] for sample, length in zip(tensor, lengths(tensor))]
        return torch.nested.as_nested_tensor([sample.transpose(0, -2) for sample in samples], layout=torch.jagged).transpose(1, -2)

    def padded(result):
        if not result.is_nested:  # weights have the size of the longest sample
            missing = size - result.shape[-1]
            return torch.nn.functional.pad(result, (0, missing, 0, missing))
        samples = torch.nested.to_padded_tensor(result, 0.0)
        return torch.stack([torch.nn.functional.pad(sample, (0, 0, 0, size - sample.shape[-2])) for sample in samples])

    its = {id(tensor): nested(tensor) for tensor in given}  # identity marks self-attention
    results = module(*(its[id(tensor)] for tensor in given), **options)
    if type(results) is tuple:
        return tuple(None if result is None else padded(result) for result in results)
    return padded(results)

query = torch.tensor([[[[0.126], [-0.132]]]], dtype=torch.float64)
key = torch.tensor([[[[0.64]]]], dtype=torch.float64)
value = torch.tensor([[[[0.105]]]], dtype=torch.float64)

query.requires_grad_()
key.requires_grad_()
value.requires_grad_()

try:
    output = packed(query, key, value)
    output.sum().backward()
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
