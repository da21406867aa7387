"""Examples of entries about torch.nn.attention.flex_attention: {id: Example}."""

from .example import Example

_SINCE = ">=2.5"

EXAMPLES = {
    "flex-blocks-ignored": Example(
        """
        from torch.nn.attention.flex_attention import BlockMask, flex_attention
        query = key = value = torch.eye(4)[None, None]
        one, first = torch.ones(1, 1, 2, dtype=torch.int32), torch.tensor([[[[0, 1], [0, 1]]]], dtype=torch.int32)
        block_mask = BlockMask.from_kv_blocks(one, first, BLOCK_SIZE=2)  # each row sees the first of two blocks
        output = flex_attention(query, key, value, block_mask=block_mask)
        print("the second block is hidden:", bool((output[..., 2:] == 0).all()))
        """,
        "the second block is hidden: False",
        "the second block is hidden: True",
        (("BLOCK_SIZE=2)", "BLOCK_SIZE=2, mask_mod=lambda b, h, q_idx, kv_idx: kv_idx < 2)"),),
        needs=_SINCE,
    ),
    "flex-slice-forgets-mask-mod": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        def causal(b, h, q_idx, kv_idx):
            return q_idx >= kv_idx
        block_mask = create_block_mask(causal, 2, None, 4, 4, device="cpu")[1:]  # of the second sample
        x = torch.eye(4)[None, None]
        output = flex_attention(x, x, x, block_mask=block_mask)
        print("the future is hidden:", bool((output.triu(1) == 0).all()))
        """,
        "the future is hidden: False",
        "RuntimeError: Cannot use mask_mod from a sliced BlockMask",
        (("[1:]  # of the second sample", "[1:]\nblock_mask.mask_mod = causal"),),
        needs=_SINCE,
        with_remedy="the future is hidden: True",
    ),
    "flex-slice-keeps-length": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        def causal(b, h, q_idx, kv_idx):
            return q_idx >= kv_idx
        def causal_of_the_last(b, h, q_idx, kv_idx):
            return q_idx + 128 >= kv_idx
        block_mask = create_block_mask(causal, None, None, 256, 256, device="cpu")[:, :, 1:]
        block_mask.mask_mod = causal_of_the_last
        query, x = torch.randn(1, 1, 128, 8), torch.randn(1, 1, 256, 8)
        print(tuple(flex_attention(query, x, x, block_mask=block_mask).shape))
        """,
        "ValueError: block_mask was created for",
        "(1, 1, 128, 8)",
        (
            ("(causal, None, None, 256, 256", "(causal_of_the_last, None, None, 128, 256"),
            ("[:, :, 1:]\nblock_mask.mask_mod = causal_of_the_last", ""),
        ),
        needs=_SINCE,
    ),
    "flex-hidden-nan": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        query, key, value = (torch.randn(1, 1, 4, 8) for _ in range(3))
        value[..., 3, :] = float("nan")  # such as torch.empty() behind the last token
        block_mask = create_block_mask(lambda b, h, q_idx, kv_idx: kv_idx < 3, None, None, 4, 4, device="cpu")
        print("NaN in the output:", bool(flex_attention(query, key, value, block_mask=block_mask).isnan().any()))
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (('float("nan")', "0"),),
        needs=_SINCE,
    ),
    "flex-gradient-large-mask": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention
        query, key, value = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
        bias = torch.tensor([[0.0, 0.0], [-1e9, -1e9]], requires_grad=True)  # the second query is padding
        def score_mod(score, b, h, q_idx, kv_idx):
            return score + bias[q_idx, kv_idx]
        output, lse = flex_attention(query, key, value, score_mod=score_mod, return_lse=True)
        lse.sum().backward()
        print("the gradients of a query add up to 1:", bool((bias.grad.sum(-1) == 1).all()))
        """,
        "the gradients of a query add up to 1: False",
        "the gradients of a query add up to 1: True",
        (("[-1e9, -1e9]", "[0.0, 0.0]"),),
        needs=">=2.6",
    ),
    "flex-log-sum-exp-overflow": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention
        query = key = value = torch.ones(1, 1, 2, 2)
        lowest = torch.finfo(torch.float32).min
        def score_mod(score, b, h, q_idx, kv_idx):
            return score + lowest
        output, lse = flex_attention(query, key, value, score_mod=score_mod, return_lse=True)
        print("the log-sum-exp is finite:", bool(lse.isfinite().all()))
        """,
        "the log-sum-exp is finite: False",
        "the log-sum-exp is finite: True",
        (("torch.finfo(torch.float32).min", "-1e9"),),
        needs=_SINCE,
    ),
    "flex-checkpoint-gradient": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention
        from torch.utils.checkpoint import checkpoint
        query, key, value = (torch.randn(1, 2, 8, 4) for _ in range(3))
        learned = torch.randn(2, 8, 8, requires_grad=True)

        def attend():
            return flex_attention(query, key, value, lambda s, b, h, q_idx, kv_idx: s + learned[h, q_idx, kv_idx])

        (expected,) = torch.autograd.grad(attend().sin().sum(), learned)
        output = checkpoint(attend, use_reentrant=False)
        (gradient,) = torch.autograd.grad(output.sin().sum(), learned)
        print("right:", torch.allclose(gradient, expected, atol=1e-5))
        """,
        "right: False",
        "right: True",
        (("checkpoint(attend, use_reentrant=False)", "attend()"),),
        needs=">=2.6",
    ),
    "flex-empty-log-sum-exp": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention
        query, key = torch.randn(1, 1, 0, 8), torch.randn(1, 1, 4, 8)
        output, lse = flex_attention(query, key, key, return_lse=True)
        print(type(lse).__name__)
        """,
        "NoneType",
        "Tensor",
        needs=_SINCE,
    ),
    "flex-no-keys": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention

        def doubled(score, sample, head, query, key):
            return 2 * score

        query, key = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 0, 8)
        print("zeros:", bool((flex_attention(query, key, key, doubled) == 0).all()))
        """,
        "IndexError: select(): index 0 out of range for tensor of size",
        "zeros: True",
        (
            (
                "flex_attention(query, key, key, doubled)",
                "F.scaled_dot_product_attention(query, key, key, scale=2 * 8**-0.5)",
            ),
        ),
        needs=_SINCE,
    ),
    "flex-empty-backward": Example(
        """
        from torch.nn.attention.flex_attention import flex_attention
        query = torch.randn(0, 1, 4, 8, requires_grad=True)
        flex_attention(query, query, query).sum().backward()
        print("differentiated")
        """,
        "RuntimeError: cannot reshape tensor of 0 elements",
        "NotImplementedError: FlexAttention does not support backward on CPU",
        needs=_SINCE,
    ),
    "flex-adjusted-blocks": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        block_mask = create_block_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, None, None, 256, 256, device="cpu")
        x = torch.randn(1, 1, 200, 8)
        output = flex_attention(x, x, x, block_mask=block_mask._adjust(200, 200))  # as an error message advises
        print(tuple(output.shape))
        """,
        "ValueError: block_mask was created for",
        "(1, 1, 200, 8)",
        (
            ("None, None, 256, 256", "None, None, 200, 200"),
            ("block_mask._adjust(200, 200))  # as an error message advises", "block_mask)"),
        ),
        needs=">=2.6",
    ),
    "flex-adjusted-far": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def much_later(b, h, q_idx, kv_idx):
            return kv_idx >= q_idx + 144

        block_mask = create_block_mask(much_later, None, None, 256, 256, device="cpu", BLOCK_SIZE=32)
        x = torch.randn(1, 1, 128, 8)
        output = flex_attention(x, x, x, block_mask=block_mask._adjust(128, 128))
        print(tuple(output.shape))
        """,
        "IndexError: index 5 is out of bounds for dimension",
        "(1, 1, 128, 8)",
        (("None, None, 256, 256", "None, None, 128, 128"), ("block_mask._adjust(128, 128))", "block_mask)")),
        needs=">=2.6",
    ),
    "flex-narrow-lists": Example(
        """
        from torch.nn.attention.flex_attention import BlockMask, flex_attention
        numbers, columns = torch.tensor([[[1, 1, 1]]]).int(), torch.tensor([[[[0], [1], [2]]]]).int()
        block_mask = BlockMask.from_kv_blocks(numbers, columns, BLOCK_SIZE=32, seq_lengths=(96, 96))
        x = torch.randn(1, 1, 96, 8)
        print(tuple(flex_attention(x, x, x, block_mask=block_mask).shape))
        """,
        "IndexError: index 2 is out of bounds for dimension",
        "(1, 1, 96, 8)",
        (
            ("import BlockMask", "import create_block_mask"),
            (
                "BlockMask.from_kv_blocks(numbers, columns, BLOCK_SIZE=32, seq_lengths=(96, 96))",
                'create_block_mask(lambda b, h, q, k: q // 32 == k // 32, 1, 1, 96, 96, device="cpu", BLOCK_SIZE=32)',
            ),
        ),
        needs=">=2.6",
    ),
    "flex-number-in-index": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask
        mask = torch.ones(2, 1, 128, 128, dtype=torch.bool).tril()
        shape = 2, None, 128, 128
        block_mask = create_block_mask(lambda b, h, q_idx, kv_idx: mask[b, 0, q_idx, kv_idx], *shape, device="cpu")
        print(tuple(block_mask.shape))
        """,
        "RuntimeError: vmap: It looks like you're calling .item() on a Tensor",
        "(2, 1, 128, 128)",
        (("mask[b, 0, q_idx, kv_idx]", "part[b, q_idx, kv_idx]"), ("shape = ", "part = mask[:, 0]\nshape = ")),
        needs=">=2.5",
    ),
    "flex-empty-block-mask": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask
        block_mask = create_block_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, None, None, 0, 4, device="cpu")
        print("created")
        """,
        "RuntimeError: resulted in a negative output size",
        "created",
        needs=">=2.6",
    ),
    "flex-mask-mod-past-the-end": Example(
        """
        from torch.nn.attention.flex_attention import create_block_mask
        padding = torch.tensor([False, False, True])
        block_mask = create_block_mask(lambda b, h, q_idx, kv_idx: ~padding[kv_idx], None, None, 3, 3, device="cpu")
        print("created")
        """,
        "IndexError: is out of bounds",
        "created",
        (('device="cpu")', 'device="cpu", BLOCK_SIZE=3)'),),
        needs=_SINCE,
    ),
}
