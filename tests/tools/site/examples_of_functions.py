"""Examples of entries about functions: {id: Example}."""

from .example import Example

EXAMPLES = {
    "empty-row-nan-sdpa": Example(
        """
        query = key = value = torch.randn(1, 2, 4, 8)
        keep = torch.ones(4, 4, dtype=torch.bool)
        keep[0] = False  # the first query sees no key
        output = F.scaled_dot_product_attention(query, key, value, keep)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (
            (
                "keep[0] = False  # the first query sees no key",
                "keep[0] = False\nkeep[~keep.any(dim=-1), 0] = True  # an empty row may see the first key",
            ),
        ),
        needs=">=2.0",
    ),
    "hidden-nan-sdpa": Example(
        """
        query = torch.randn(1, 2, 4, 8)
        key, value = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
        key[..., 4:, :] = value[..., 4:, :] = float("nan")  # the part of a cache that is not yet written
        keep = torch.arange(6) < 4
        output = F.scaled_dot_product_attention(query, key, value, keep.expand(4, 6))
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (
            (
                'float("nan")  # the part of a cache that is not yet written',
                "0.0  # torch.zeros for a cache, not torch.empty",
            ),
        ),
        needs=">=2.0",
    ),
    "flash-gradient-finfo-min": Example(
        """
        query, key, value = (torch.zeros(1, 1, 4, 8, requires_grad=True) for _ in range(3))
        mask = torch.zeros(4, 4)
        mask[0] = -1e9  # a padded query: all of its keys are masked
        output = F.scaled_dot_product_attention(query, key, value, mask)
        output[0, 0, 0].sum().backward()
        print("largest gradient of a value:", round(value.grad.max().item(), 2))
        """,
        "largest gradient of a value: 1.0",
        "largest gradient of a value: 0.25",
        (
            (
                "mask[0] = -1e9  # a padded query: all of its keys are masked",
                "mask[0] = 0.0  # the output of a padded query is not used, so it may see all keys",
            ),
        ),
        needs=">=2.0",
    ),
    "flash-float32-mask": Example(
        """
        query, key = torch.zeros(1, 1, 1, 8).double(), torch.zeros(1, 1, 32, 8).double()
        value = torch.arange(32.0).double()[:, None].repeat(1, 8)[None, None]
        mask = torch.zeros(1, 32)  # float32 beside float64
        mask[:, 1:] = float("-inf")  # only the first key is visible, whose value is 0
        output = F.scaled_dot_product_attention(query, key, value, mask)
        print("sees hidden keys:", (output != 0).any().item())
        """,
        "sees hidden keys: True",
        "sees hidden keys: False",
        (("torch.zeros(1, 32)  # float32 beside float64", "torch.zeros(1, 32, dtype=query.dtype)"),),
        needs=">=2.4",
    ),
    "flash-first-keys-hidden": Example(
        """
        query = key = value = torch.randn(1, 1, 1024, 8)
        i, j = torch.arange(1024)[:, None], torch.arange(1024)
        keep = (j <= i) & (j > i - 256)  # a sliding window
        output = F.scaled_dot_product_attention(query, key, value, keep)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (("output =", "with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):\n    output ="),),
        helps=">=2.3",
        needs=">=2.0",
    ),
    "flash-causal-negative-scale": Example(
        """
        query = key = value = torch.randn(1, 1, 4, 8)
        output = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=-1.0)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (("query, key, value, is_causal=True, scale=-1.0", "-query, key, value, is_causal=True, scale=1.0"),),
        needs=">=2.1",
    ),
    "flash-mask-one-key": Example(
        """
        query = key = value = torch.randn(1, 1, 4, 8)
        column = torch.full((4, 64), float("nan"))[:, :1]
        column[:] = 0.0  # broadcasts over the keys
        output = F.scaled_dot_product_attention(query, key, value, column)
        print("right:", torch.allclose(output, F.scaled_dot_product_attention(query, key, value), atol=1e-5))
        """,
        "right: False",
        "right: True",
        (("value, column)", "value, column.repeat(1, 4))"),),
        needs=">=2.0",
    ),
    "flash-nan-query-zero": Example(
        """
        query, key, value = (torch.randn(1, 1, 3, 8) for _ in range(3))
        query[..., 0, :] = float("nan")
        output = F.scaled_dot_product_attention(query, key, value)
        print("the NaN is seen:", output.isnan().any().item())
        """,
        "the NaN is seen: False",
        "the NaN is seen: True",
        (("output =", "with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):\n    output ="),),
        helps=">=2.3",
        needs=">=2.0",
    ),
    "sdpa-mask-of-few-dimensions": Example(
        """
        query = key = value = torch.randn(1, 2, 4, 8)
        keep = torch.tensor([True, True, True, False])  # hides the last key from all queries
        output = F.scaled_dot_product_attention(query, key, value, keep)
        print(tuple(output.shape))
        """,
        "IndexError: Dimension out of range",
        "(1, 2, 4, 8)",
        (("value, keep)", "value, keep.expand(4, 4))"),),
        needs=">=2.0",
    ),
    "autocast-mask-overflow": Example(
        """
        query, key, value = torch.zeros(1, 1, 4, 8), torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 8)
        mask = torch.zeros(4, 4)
        mask[0] = torch.finfo(torch.float32).min  # does not fit into bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            output = F.scaled_dot_product_attention(query, key, value, mask)
        mean = value.mean(dim=-2)
        print("the mean of the values:", torch.allclose(output[:, :, 0].float(), mean, atol=0.05))
        """,
        "the mean of the values: False",
        "the mean of the values: True",
        (("torch.finfo(torch.float32).min  # does not fit into bfloat16", "-1e4"),),
        needs=">=2.2",
    ),
    "square-mask-default-dtype": Example(
        """
        torch.set_default_dtype(torch.float64)
        mask = nn.Transformer.generate_square_subsequent_mask(4)
        torch.set_default_dtype(torch.float32)
        print(mask.dtype)
        """,
        "torch.float32",
        "torch.float64",
        (("subsequent_mask(4)", "subsequent_mask(4, dtype=torch.get_default_dtype())"),),
        helps=">=2.1",
    ),
    "causal-bias-size-ignored": Example(
        """
        from torch.nn.attention.bias import causal_lower_right
        key = value = torch.randn(1, 1, 5, 8)  # a cache of five positions
        query = torch.randn(1, 1, 1, 8)  # the newest position, which may see all five
        bias = causal_lower_right(4, 4)  # made for the prompt, used again
        output = F.scaled_dot_product_attention(query, key, value, bias)
        print("sees only the first key:", torch.allclose(output, value[:, :, :1]))
        """,
        "sees only the first key: True",
        "sees only the first key: False",
        (
            (
                "causal_lower_right(4, 4)  # made for the prompt, used again",
                "causal_lower_right(1, 5)  # made for each step",
            ),
        ),
        needs=">=2.3",
    ),
    "sdpa-mask-with-hint": Example(
        """
        query = key = value = torch.randn(1, 1, 4, 8)
        keep = torch.tensor([True, True, True, False]).expand(4, 4)
        output = F.scaled_dot_product_attention(query, key, value, keep, is_causal=True)
        print("accepted")
        """,
        "accepted",
        "RuntimeError: _scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True",
        needs=">=2.3",
    ),
}
