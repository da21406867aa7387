"""Examples of entries about nested tensors that are given: {id: Example}."""

from .example import Example

_LAYER = "layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)"
_PADDING = "padding = torch.tensor([[False, False, False, False], [False, False, True, True]])"

EXAMPLES = {
    "nested-sdpa-no-keys": Example(
        """
        query = torch.nested.nested_tensor([torch.randn(2, 4, 8)])
        key = value = torch.nested.nested_tensor([torch.randn(2, 0, 8)])  # nothing to attend to
        output = F.scaled_dot_product_attention(query, key, value)
        print("shapes:", [tuple(sample.shape) for sample in output.unbind()])
        """,
        "RuntimeError: ",
        "shapes: [(2, 4, 8)]",
        needs=">=2.2",
    ),
    "nested-sdpa-few-keys": Example(
        """
        def jagged(*lengths):  # (samples, 1 head, length, 8 features)
            samples = [torch.randn(length, 1, 8) for length in lengths]
            return torch.nested.nested_tensor(samples, layout=torch.jagged).transpose(1, 2)

        query, key, value = jagged(4, 4), jagged(1, 0), jagged(1, 0)  # the second sample has no key
        output = F.scaled_dot_product_attention(query, key, value)
        print("shapes:", [tuple(sample.shape) for sample in output.unbind()])
        """,
        "RuntimeError: ",
        "shapes: [(1, 4, 8), (1, 4, 8)]",
        needs=">=2.5",
    ),
    "nested-mha-no-keys": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
        x = torch.nested.nested_tensor([torch.randn(0, 8), torch.randn(0, 8)])  # every sample is empty
        with torch.no_grad():
            output, _ = attention(x, x, x, need_weights=False)
        print("shapes:", [tuple(sample.shape) for sample in output.unbind()])
        """,
        "RuntimeError: ",
        "shapes: [(0, 8), (0, 8)]",
        needs=">=2.2",
    ),
    "jagged-sdpa-no-backend": Example(
        """
        samples = [torch.randn(4, 2, 8), torch.randn(3, 2, 8)]  # (length, heads, features)
        x = torch.nested.nested_tensor(samples, layout=torch.jagged).transpose(1, 2)
        output = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        print("shapes:", [tuple(sample.shape) for sample in output.unbind()])
        """,
        "RuntimeError: ",
        "shapes: [(2, 4, 8), (2, 3, 8)]",
        needs=">=2.3",
    ),
    "jagged-holes-no-backend": Example(
        """
        padded, lengths = torch.randn(2, 4, 2, 8), torch.tensor([3, 4])  # (batch, length, heads, features)
        x = torch.nested.narrow(padded, 1, torch.zeros_like(lengths), lengths, layout=torch.jagged).transpose(1, 2)
        output = F.scaled_dot_product_attention(x, x, x)
        print("shapes:", [tuple(sample.shape) for sample in output.unbind()])
        """,
        "RuntimeError: ",
        "shapes: [(2, 3, 8), (2, 4, 8)]",
        needs=">=2.7",
    ),
    "jagged-contiguous-gradient": Example(
        """
        padded, lengths = torch.randn(2, 4, 2, 8, requires_grad=True), torch.tensor([3, 4])
        x = torch.nested.narrow(padded, 1, torch.zeros_like(lengths), lengths, layout=torch.jagged)
        x = x.contiguous().transpose(1, 2)  # without contiguous(), there is no kernel
        F.scaled_dot_product_attention(x, x, x).transpose(1, 2).values().sum().backward()
        print(padded.grad.shape)
        """,
        "RuntimeError: ",
        "torch.Size([2, 4, 2, 8])",
        needs=">=2.7",
    ),
    "jagged-padded-gradient": Example(
        """
        samples = [torch.randn(4, 2, 8), torch.randn(3, 2, 8)]  # (length, heads, features)
        x = torch.nested.nested_tensor(samples, layout=torch.jagged, requires_grad=True).transpose(1, 2)
        output = F.scaled_dot_product_attention(x, x, x)
        torch.nested.to_padded_tensor(output, 0.0).sum().backward()
        print("ok")
        """,
        "RuntimeError: ",
        "ok",
        (
            (
                "to_padded_tensor(output, 0.0)",
                "to_padded_tensor(output.transpose(1, 2), 0.0)",
            ),
        ),
        needs=">=2.7",
    ),
    "jagged-padded-to-heads": Example(
        """
        values, offsets = torch.randn(7, 2, 8), torch.tensor([0, 4, 7])  # 2 samples, 2 heads
        x = torch.nested.nested_tensor_from_jagged(values, offsets).transpose(1, 2)
        output = F.scaled_dot_product_attention(x, x, x)
        output = torch.nested.to_padded_tensor(output, 0.0)
        print("positions:", output.shape[2])
        """,
        "positions: 2",
        "positions: 4",
        (("(values, offsets)", "(values, offsets, max_seqlen=4)"),),
        needs=">=2.7",
    ),
    "nested-beside-padding": Example(
        f"""
        {_LAYER}
        encoder = nn.TransformerEncoder(layer, 2).eval()
        src = torch.nested.nested_tensor([torch.randn(4, 8), torch.randn(2, 8)])
        {_PADDING}  # a nested src has no padding
        with torch.no_grad():
            output = encoder(src, src_key_padding_mask=padding)
        """,
        "NotImplementedError: ",
        "an error that says to leave out the padding mask",
        ((", src_key_padding_mask=padding)", ")\nprint(output.is_nested)"),),
        with_remedy="True",
    ),
}
