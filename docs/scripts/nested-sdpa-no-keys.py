# scaled_dot_product_attention raises for nested tensors of empty sequences.
# To avoid it: Give a padded batch, and the padding as attn_mask (from 2.5; cost: speed and memory).
# To avoid it: Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if
#     the mask is float (if there is a query, and queries and keys have features; cost: other numbers, since the masks
#     change).

import sys

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch, "nested"):
    print("not applicable: this release has no torch.nested")
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

query = torch.tensor([[[[0.126]]]], dtype=torch.float64)
key = torch.tensor([[[[-0.132]]]], dtype=torch.float64)
value = torch.tensor([[[[0.64]]]], dtype=torch.float64)

attn_mask = torch.tensor([[[[False]]]])

try:
    with torch.no_grad():
        packed(query, key, value, attn_mask=attn_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
