"""Examples of modules whose parts are adapted, wrapped, hooked, overridden or quantized."""

from .example import Example

EXAMPLES = {
    "adapter-on-out-projection": Example(
        """
        class Adapted(nn.Module):  # as LoRA
            def __init__(self, base):
                super().__init__()
                self.base, self.update = base, nn.Linear(8, 8)
                self.weight, self.bias = base.weight, base.bias

            def forward(self, x):
                return self.base(x) + self.update(x)

        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        before, _ = attention(x, x, x)
        attention.out_proj = Adapted(attention.out_proj)
        print("the adapter changes the output:", not torch.equal(attention(x, x, x)[0], before))
        """,
        "the adapter changes the output: False",
        "the adapter changes the output: True",
        (
            (
                " = Adapted(attention.out_proj)",
                ".weight.data += Adapted(attention.out_proj).update.weight.data  # merged",
            ),
        ),
    ),
    "hook-on-out-projection": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        seen = []
        attention.out_proj.register_forward_hook(lambda part, given, output: seen.append(output))
        x = torch.randn(2, 4, 8)
        attention(x, x, x)
        print("calls of the hook:", len(seen))
        """,
        "calls of the hook: 0",
        "calls of the hook: 1",
        (("attention.out_proj.register", "attention.register"),),
    ),
    "adapter-in-native-layer": Example(
        """
        seen = []

        class Adapted(nn.Linear):  # as LoRA
            def forward(self, values):
                seen.append(values)
                return super().forward(values) + self.update(values)

        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        layer.linear1, layer.linear1.update = Adapted(8, 16), nn.Linear(8, 16)
        with torch.no_grad():
            layer(torch.randn(2, 4, 8))
        print("calls of the adapter:", len(seen))
        """,
        "calls of the adapter: 0",
        "calls of the adapter: 1",
        (("(8, 2, 16, batch_first=True)", "(8, 2, 16)"),),
    ),
    "hook-in-native-layer": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        seen = []
        layer.linear1.register_forward_hook(lambda part, given, output: seen.append(output))
        with torch.no_grad():
            layer(torch.randn(2, 4, 8))
        print("calls of the hook:", len(seen))
        """,
        "calls of the hook: 0",
        "calls of the hook: 1",
        (("(8, 2, 16, batch_first=True)", "(8, 2, 16)"),),
    ),
    "override-in-native-layer": Example(
        """
        seen = []

        class Layer(nn.TransformerEncoderLayer):
            def _ff_block(self, x):
                seen.append(x)
                return super()._ff_block(x)

        layer = Layer(8, 2, 16, batch_first=True).eval()
        with torch.no_grad():
            layer(torch.randn(2, 4, 8))
        print("calls of the method:", len(seen))
        """,
        "calls of the method: 0",
        "calls of the method: 1",
        (("(8, 2, 16, batch_first=True)", "(8, 2, 16)"),),
    ),
    "out-projection-without-weight": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        attention.out_proj = nn.Sequential(attention.out_proj, nn.Dropout(0.1))
        x = torch.randn(2, 4, 8)
        output, _ = attention(x, x, x)
        print(tuple(output.shape))
        """,
        "AttributeError: 'Sequential' object has no attribute 'weight'",
        "(2, 4, 8)",
    ),
    "linear-without-weight": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        layer.linear1 = nn.Sequential(layer.linear1, nn.LayerNorm(16))
        with torch.no_grad():
            output = layer(torch.randn(2, 4, 8))
        print(tuple(output.shape))
        """,
        "AttributeError: 'Sequential' object has no attribute 'weight'",
        "(2, 4, 8)",
        (("(8, 2, 16, batch_first=True)", "(8, 2, 16)"),),
    ),
    "quantized-encoder-raises": Example(
        """
        from torch.ao.quantization import quantize_dynamic
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        layer = quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
        output = layer(torch.randn(2, 4, 8))
        print(tuple(output.shape))
        """,
        "AttributeError: 'function' object has no attribute",
        "(2, 4, 8)",
        (("(8, 2, 16, batch_first=True)", "(8, 2, 16)"),),
    ),
    "quantized-nan": Example(
        """
        from torch.ao.quantization import quantize_dynamic
        layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
        layer = quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
        tgt, memory = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
        padding = torch.tensor([[True] * 4, [False] * 4])  # the first sample is empty
        with torch.no_grad():
            output = layer(tgt, memory, tgt_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "RuntimeError: min should be less than or equal to max",
        "(2, 4, 8)",
        (("[[True] * 4, ", "[[False] + [True] * 3, "),),
    ),
    # ---- weight norm by hooks
    "weight-norm-out-projection": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        nn.utils.weight_norm(attention.out_proj)
        x = torch.randn(1, 4, 8)
        with torch.no_grad():
            before, _ = attention(x, x, x)
            attention.out_proj.weight_g.zero_()  # as an optimizer or load_state_dict changes it
            after, _ = attention(x, x, x)
        print("the new weights count:", not torch.allclose(before, after))
        """,
        "the new weights count: False",
        "the new weights count: True",
        (("    after,", "    attention.out_proj(x)  # runs the hook that computes the weight\n    after,"),),
    ),
    "weight-norm-native-layer": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
        nn.utils.weight_norm(layer.linear1)
        src = torch.randn(1, 4, 8)
        with torch.no_grad():
            before = layer(src)
            layer.linear1.weight_g.zero_()  # as an optimizer or load_state_dict changes it
            after = layer(src)
        print("the new weights count:", not torch.allclose(before, after))
        """,
        "the new weights count: False",
        "the new weights count: True",
        (
            ("with torch.no_grad():", "src.requires_grad_()\nwith torch.enable_grad():"),
            ("weight_g.zero_", "weight_g.data.zero_"),
        ),
    ),
    # ---- spectral norm by hooks
    "spectral-norm-out-projection": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        attention.out_proj.weight.data = 5 * torch.eye(8)
        nn.utils.spectral_norm(attention.out_proj)
        x = torch.randn(1, 4, 8)
        attention(x, x, x)
        print("spectral norm:", round(torch.linalg.matrix_norm(attention.out_proj.weight, 2).item()))
        """,
        "spectral norm: 5",
        "spectral norm: 1",
        (("nn.utils.spectral_norm", "nn.utils.parametrizations.spectral_norm"),),
    ),
    "spectral-norm-native-layer": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        nn.utils.spectral_norm(layer.linear1)
        src = torch.randn(1, 4, 8)
        layer(src)  # in training mode
        layer.eval()
        with torch.no_grad():
            before = layer(src)
            layer.linear1.weight_orig[:8] = 0  # as an optimizer or load_state_dict changes it
            after = layer(src)
        print("the new weights count:", not torch.allclose(before, after))
        """,
        "the new weights count: False",
        "the new weights count: True",
        (
            ("nn.utils.spectral_norm", "nn.utils.parametrizations.spectral_norm"),
            ("linear1.weight_orig", "linear1.parametrizations.weight.original"),
        ),
    ),
}
