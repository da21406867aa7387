"""Examples of entries about wrong masks: {id: Example}. With the remedy, the mask is right, or is refused by name."""

from .example import Example

_ATTENTION = "attention = nn.MultiheadAttention(8, 2, batch_first=True)"
_LAYER = "layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)"
_NAMED = "an error that names the mask"
_DOUBLE = "torch.zeros(4, 4, dtype=torch.float64)  # such as one made by NumPy"

EXAMPLES = {
    "native-mask-by-elements": Example(
        f"""
        {_LAYER}.eval()
        src = torch.randn(2, 4, 8)
        mask = torch.zeros(2, 8, dtype=torch.bool)  # should be (4, 4)
        with torch.no_grad():
            output = layer(src, src_mask=mask)
        print("accepted")
        """,
        "accepted",
        "RuntimeError: The shape of the 2D attn_mask is torch.Size([2, 8]), but should be (4, 4).",
        (("with torch.no_grad():", "src.requires_grad_()\nwith torch.enable_grad():"),),
        needs=">=2.0.1",
    ),
    "native-mask-per-sample": Example(
        f"""
        {_ATTENTION}.eval()
        x = torch.randn(2, 4, 8)
        mask = torch.zeros(2, 4, 4, dtype=torch.bool)  # a mask for each sample; should be (2 * heads, 4, 4)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        with torch.no_grad():
            output, _ = attention(x, x, x, attn_mask=mask, key_padding_mask=padding)
        print("accepted")
        """,
        "accepted",
        "RuntimeError: The shape of the 3D attn_mask is torch.Size([2, 4, 4]), but should be (4, 4, 4).",
        (("attn_mask=mask,", "attn_mask=mask.repeat_interleave(2, 0),"),),
        needs=">=2.0.1",
        with_remedy="accepted",
    ),
    "native-padding-size-unnamed": Example(
        f"""
        {_ATTENTION}.eval()
        x = torch.randn(2, 4, 8)
        causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        padding = torch.zeros(2, 3, dtype=torch.bool)  # should be (2, 4)
        with torch.no_grad():
            attention(x, x, x, attn_mask=causal, key_padding_mask=padding)
        """,
        "RuntimeError: shape '[2, 1, 1, 4]' is invalid for input of size 6",
        "AssertionError: key_padding_mask",
        (("attention(x, x, x,", "attention(x, x.clone(), x.clone(),"),),
        needs=">=2.0.1",
        with_remedy="AssertionError: ",
    ),
    "explicit-mask-precision-unnamed": Example(
        f"""
        {_ATTENTION}
        x = torch.randn(2, 4, 8)
        mask = {_DOUBLE}
        output, weights = attention(x, x, x, attn_mask=mask)
        print(tuple(output.shape))
        """,
        "RuntimeError: ",
        _NAMED,
        (("attn_mask=mask)", "attn_mask=mask.to(x.dtype))"),),
        needs=">=2.1",
        with_remedy="(2, 4, 8)",
    ),
    "padding-precision-as-attn-mask": Example(
        f"""
        {_LAYER}
        src = torch.randn(2, 4, 8)
        padding = torch.zeros(2, 4, dtype=torch.float64)  # such as one made by NumPy
        output = layer(src, src_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "RuntimeError: Expected attn_mask dtype to be bool or",
        "an error that names the padding mask",
        (("mask=padding)", "mask=padding.to(src.dtype))"),),
        needs=">=2.0",
        with_remedy="(2, 4, 8)",
    ),
    "native-padding-size-as-attn-mask": Example(
        f"""
        {_ATTENTION}.eval()
        x = torch.randn(2, 4, 8)
        padding = torch.zeros(2, 3, dtype=torch.bool)  # should be (2, 4)
        with torch.no_grad():
            attention(x, x, x, key_padding_mask=padding)
        """,
        "RuntimeError: ",
        "an error that names the padding mask",
        needs="<2.0",
    ),
    "decoder-integer-mask-unnamed": Example(
        """
        layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        decoder = nn.TransformerDecoder(layer, 1)
        tgt, memory = torch.randn(2, 4, 8), torch.randn(2, 5, 8)
        mask = torch.ones(4, 4, dtype=torch.long).triu(diagonal=1)
        output = decoder(tgt, memory, tgt_mask=mask)
        print(tuple(output.shape))
        """,
        "RuntimeError: ",
        _NAMED,
        (("tgt_mask=mask)", "tgt_mask=mask.bool())"),),
        needs=">=2.1",
        with_remedy="(2, 4, 8)",
    ),
    "sdpa-mask-shape-unnamed": Example(
        """
        query, key, value = torch.randn(2, 2, 4, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
        keep = torch.ones(6, 4, dtype=torch.bool)  # transposed: should broadcast to (2, 2, 4, 6)
        output = F.scaled_dot_product_attention(query, key, value, keep)
        print(tuple(output.shape))
        """,
        "RuntimeError: The size of tensor a",
        _NAMED,
        (("value, keep)", "value, keep.T)"),),
        needs=">=2.0",
        with_remedy="(2, 2, 4, 8)",
    ),
    "causal-bias-as-memory": Example(
        """
        from torch.nn.attention.bias import causal_lower_right
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        output, _ = attention(x, x, x, attn_mask=causal_lower_right(4, 4))  # meant for scaled_dot_product_attention
        print("accepted")
        """,
        "accepted",
        _NAMED,
        (("causal_lower_right(4, 4)", "torch.ones(4, 4, dtype=torch.bool).triu(1)"),),
        needs=">=2.8",
        with_remedy="accepted",
    ),
    "sdpa-mask-1d-unnamed": Example(
        """
        query, key, value = torch.randn(2, 2, 4, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
        keep = torch.ones(5, dtype=torch.bool)  # should be (6,)
        output = F.scaled_dot_product_attention(query, key, value, keep)
        """,
        "IndexError: Dimension out of range",
        _NAMED,
        (("value, keep)", "value, keep[None])"),),
        needs=">=2.3",
        with_remedy="RuntimeError: ",
    ),
    "sdpa-float32-mask": Example(
        """
        query = key = value = torch.randn(1, 2, 4, 8, dtype=torch.bfloat16)
        mask = torch.zeros(4, 4)  # float32, which the documentation does not allow beside bfloat16
        output = F.scaled_dot_product_attention(query, key, value, mask)
        print("accepted")
        """,
        "accepted",
        "RuntimeError: Expected attn_mask dtype to be bool or",
        (("value, mask)", "value, mask.to(query.dtype))"),),
        needs=">=2.0",
        with_remedy="accepted",
    ),
    "fused-float32-mask": Example(
        """
        query, key = torch.zeros(1, 1, 1, 8).double(), torch.zeros(1, 1, 32, 8).double()
        value = torch.arange(32.0).double()[:, None].repeat(1, 8)[None, None]
        mask = torch.zeros(1, 32)  # float32 beside float64
        mask[:, 1:] = float("-inf")  # only the first key is visible, whose value is 0
        output = F.scaled_dot_product_attention(query, key, value, mask)
        print("sees hidden keys:", (output != 0).any().item())
        """,
        "sees hidden keys: True",
        "RuntimeError: Expected attn_mask dtype to be bool or",
        (("value, mask)", "value, mask.to(query.dtype))"),),
        needs=">=2.0",
        with_remedy="sees hidden keys: False",
    ),
    "sdpa-value-length": Example(
        """
        query, key = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 6, 8)
        value = torch.randn(1, 1, 7, 8)  # one longer than key
        output = F.scaled_dot_product_attention(query, key, value)
        print("accepted")
        """,
        "accepted",
        "an error about the lengths of key and value",
        (("output =", "assert key.shape[-2] == value.shape[-2]\noutput ="),),
        needs=">=2.1",
        with_remedy="AssertionError: ",
    ),
    "meta-mask-undefined": Example(
        f"""
        {_ATTENTION}
        x = torch.randn(2, 4, 8)
        mask = torch.zeros(4, 4, dtype=torch.bool, device="meta")  # from a model that is not yet materialised
        output, weights = attention(x, x, x, attn_mask=mask)
        print("a result on", output.device)  # its numbers are those that were in memory before
        """,
        "a result on cpu",
        "an error about the device of the mask",
        (("output, weights", "assert mask.device == x.device\noutput, weights"),),
        needs=">=2.0",
        with_remedy="AssertionError: ",
    ),
    "meta-mask-meta-result": Example(
        f"""
        {_ATTENTION}
        x = torch.randn(2, 4, 8)
        mask = torch.zeros(4, 4, dtype=torch.bool, device="meta")  # from a model that is not yet materialised
        output, _ = attention(x, x, x, attn_mask=mask, need_weights=False)
        print("a result on", output.device)
        """,
        "a result on meta",
        "an error about the device of the mask",
        (("output,", "assert mask.device == x.device\noutput,"),),
        helps="<2.0",
        needs="<2.0",
        with_remedy="AssertionError: ",
    ),
    "meta-mask-unnamed": Example(
        """
        model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
        src, tgt = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
        mask = torch.zeros(4, 4, dtype=torch.bool, device="meta")  # from a model that is not yet materialised
        output = model(src, tgt, src_mask=mask)
        print(tuple(output.shape))
        """,
        "RuntimeError: ",
        _NAMED,
        (('device="meta"', 'device="cpu"'),),
        with_remedy="(2, 3, 8)",
    ),
    "cpu-mask-unnamed": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True, device="cuda")
        x = torch.randn(2, 4, 8, device="cuda")
        mask = torch.zeros(4, 4)  # left on the CPU
        output, weights = attention(x, x, x, attn_mask=mask)
        """,
        "",
        "",
    ),
}
