"""Examples of entries about modes, pruning and low precision: {id: Example}."""

from .example import Example

_LAYER = "layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)"
_PADDING = "padding = torch.tensor([[False, False, False, False], [False, False, True, True]])"
_NOT_NESTED = (("(layer, 2)", "(layer, 2, enable_nested_tensor=False)"),)
_WITH_TRAINED_PART = f"""
        {_LAYER}
        encoder = nn.TransformerEncoder(layer, 2).eval().requires_grad_(False)
        weight = encoder.layers[1].linear1.weight.requires_grad_()  # a later layer is fine-tuned
        src = torch.randn(2, 4, 8)
        {_PADDING}"""

EXAMPLES = {
    # ---- masks of two types
    "bool-mask-float-padding": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        padding = torch.tensor([[0.0, 0.0, 0.5, 0.0]])  # gives one key more weight
        output, weights = attention(x, x, x, attn_mask=causal, key_padding_mask=padding)
        print("the key is hidden:", (weights[..., 2] == 0).all().item())
        """,
        "the key is hidden: True",
        "the key is hidden: False",
    ),
    "float-mask-float-padding": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        causal = torch.triu(torch.full((4, 4), float("-inf")), diagonal=1)
        padding = torch.tensor([[0.0, 0.0, float("-inf"), float("-inf")]])
        output, weights = attention(x, x, x, attn_mask=causal, key_padding_mask=padding)
        print("the padding is hidden:", (weights[..., 2:] == 0).all().item())
        """,
        "the padding is hidden: False",
        "the padding is hidden: True",
        (('torch.tensor([[0.0, 0.0, float("-inf"), float("-inf")]])', "torch.tensor([[False, False, True, True]])"),),
    ),
    # ---- causal_lower_right
    "lower-right-bias-warning": Example(
        """
        from torch.nn.attention.bias import causal_lower_right
        query, key, value = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 2, 8), torch.randn(1, 1, 2, 8)
        mask = causal_lower_right(4, 2)  # the last query sees the last key
        output = F.scaled_dot_product_attention(query, key, value, mask)
        print("no warning")
        """,
        "UserWarning: Lower right causal bias will produce NaNs",
        "no warning",
        (("causal_lower_right(4, 2)", "torch.ones(4, 2, dtype=torch.bool).tril(2 - 4)"),),
        needs=">=2.3",
    ),
    "efficient-lower-right": Example(
        """
        from torch.nn.attention.bias import causal_lower_right
        query, key, value = (torch.randn(1, 1, length, 8, device="cuda") for length in (4, 2, 2))
        output = F.scaled_dot_product_attention(query, key, value, causal_lower_right(4, 2))
        print("queries without a key get 0:", (output[:, :, :2] == 0).all().item())
        """,
        "",
        "",
    ),
    # ---- low precision
    "float16-mask-overflow": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float16)
        x = 30 * torch.randn(64, 2, 8, dtype=torch.float16)
        mask = torch.full((2, 2), torch.finfo(torch.float16).min, dtype=torch.float16)
        output, weights = attention(x, x, x, attn_mask=mask)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (("torch.finfo(torch.float16).min", "-100.0"),),
        needs=">=2.3",
    ),
    "flash-gradient-bfloat16": Example(
        """
        tensors = torch.randn(1, 2, 32, 1), torch.randn(1, 2, 129, 1), torch.randn(1, 2, 129, 1)

        def gradient(dtype):
            query, key, value = (tensor.to(dtype).requires_grad_() for tensor in tensors)
            F.scaled_dot_product_attention(query, key, value).sum().backward()
            return key.grad.float()

        close = torch.allclose(gradient(torch.bfloat16), gradient(torch.float32), atol=0.05)
        print("bfloat16 and float32 agree:", close)
        """,
        "bfloat16 and float32 agree: False",
        "bfloat16 and float32 agree: True",
        needs=">=2.0",
    ),
    "bfloat16-sums-on-mask": Example(
        """
        attention = nn.MultiheadAttention(16, 1, batch_first=True, dtype=torch.bfloat16)
        x = 4 * torch.randn(1, 4, 16, dtype=torch.bfloat16)
        same = torch.full((4, 4), 1000.0, dtype=torch.bfloat16)  # the same for all keys: it should change little
        _, weights = attention(x, x, x)
        _, masked = attention(x, x, x, attn_mask=same)
        print("a weight is off by more than a half:", ((weights - masked).abs() > 0.5).any().item())
        """,
        "a weight is off by more than a half: True",
        "a weight is off by more than a half: False",
        ((", dtype=torch.bfloat16", ""),),
        needs=">=2.0",
    ),
    "bfloat16-long-sums": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.bfloat16)
        query, key = torch.randn(1, 1, 8, dtype=torch.bfloat16), torch.randn(1, 1, 8, dtype=torch.bfloat16)
        same = key.expand(1, 1024, 8)  # 1024 equal keys: their mean is each of them
        one, _ = attention(query, key, key, need_weights=False)
        many, _ = attention(query, same, same, need_weights=False)
        print("the mean is right:", torch.allclose(one, many, atol=0.05))
        """,
        "the mean is right: False",
        "the mean is right: True",
        (("batch_first=True, dtype=torch.bfloat16)", "batch_first=True)"), ("8, dtype=torch.bfloat16)", "8)")),
        needs=">=2.0",
    ),
    # ---- nothing to attend to
    "sdpa-no-features-zero": Example(
        """
        query = key = torch.randn(1, 1, 4, 0)  # no features: all scores are 0, all weights equal
        value = torch.randn(1, 1, 4, 8)
        output = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        print("the mean of the values:", torch.allclose(output, value.mean(dim=-2, keepdim=True), atol=1e-6))
        """,
        "the mean of the values: False",
        "the mean of the values: True",
        needs=">=2.1",
    ),
    # ---- pruning
    "pruned-out-projection": Example(
        """
        from torch.nn.utils import prune
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        prune.l1_unstructured(attention.out_proj, "weight", amount=0.5)
        x = torch.randn(1, 4, 8)
        with torch.no_grad():
            before, _ = attention(x, x, x)
            attention.out_proj.weight_orig.zero_()  # as an optimizer or load_state_dict changes it
            after, _ = attention(x, x, x)
        print("the new weights count:", not torch.allclose(before, after))
        """,
        "the new weights count: False",
        "the new weights count: True",
        (("    after,", "    attention.out_proj(x)  # runs the hook that prunes the new weights\n    after,"),),
    ),
    "pruned-native-layer": Example(
        f"""
        from torch.nn.utils import prune
        {_LAYER}.eval()
        prune.l1_unstructured(layer.linear1, "weight", amount=0.5)
        src = torch.randn(1, 4, 8)
        with torch.no_grad():
            before = layer(src)
            layer.linear1.weight_orig.zero_()  # as an optimizer or load_state_dict changes it
            after = layer(src)
        print("the new weights count:", not torch.allclose(before, after))
        """,
        "the new weights count: False",
        "the new weights count: True",
        (
            ("with torch.no_grad():", "src.requires_grad_()\nwith torch.enable_grad():"),
            ("weight_orig.zero_", "weight_orig.data.zero_"),
        ),
    ),
    # ---- masks that torch makes
    "square-mask-default-device": Example(
        """
        with torch.device("meta"):  # or "cuda"
            mask = nn.Transformer.generate_square_subsequent_mask(4)
        print(mask.device)
        """,
        "cpu",
        "meta",
        (("mask(4)", 'mask(4, device="meta")'),),
        needs=">=2.0",
    ),
    # ---- second derivatives, torch.func
    "nested-second-derivative": Example(
        f"""{_WITH_TRAINED_PART}
        loss = encoder(src, src_key_padding_mask=padding).pow(3).sum()
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        gradient.pow(2).sum().backward()
        print("the second derivative is there")
        """,
        "RuntimeError: ",
        "the second derivative is there",
        needs=">=2.1",
    ),
    "func-nested-raises": Example(
        f"""
        {_LAYER}
        encoder = nn.TransformerEncoder(layer, 2).eval().requires_grad_(False)
        src = torch.randn(2, 4, 8)
        padding = torch.zeros(2, 4)
        padding[1, 2:] = float("-inf")

        def loss(padding):
            return encoder(src, src_key_padding_mask=padding).sum()

        print("gradient:", tuple(torch.func.grad(loss)(padding).shape))
        """,
        "RuntimeError: ",
        "gradient: (2, 4)",
        ((".requires_grad_(False)", ""),),
        needs=">=2.0",
    ),
    "ensemble-nested-raises": Example(
        f"""
        from copy import deepcopy
        from torch.func import functional_call, stack_module_state, vmap

        {_LAYER}
        encoders = [nn.TransformerEncoder(layer, 2).eval() for _ in range(3)]
        parameters, buffers = stack_module_state(encoders)
        hollow = deepcopy(encoders[0]).to("meta")
        src = torch.randn(2, 4, 8)
        {_PADDING}

        def encode(parameters):
            return functional_call(hollow, parameters, (src,), {{"src_key_padding_mask": padding}})

        print(tuple(vmap(encode)(parameters).shape))
        """,
        "NotImplementedError: Could not run 'aten::stack'",
        "(3, 2, 4, 8)",
        _NOT_NESTED,
        needs=">=2.3",
    ),
    "func-jvp-expanded": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        mask = torch.zeros(4, 1).expand(4, 4)

        def attend(mask):
            return attention(x, x, x, attn_mask=mask)[0]

        output, tangent = torch.func.jvp(attend, (mask,), (torch.randn(4, 4),))
        print(tuple(tangent.shape))
        """,
        "RuntimeError: ",
        "(1, 4, 8)",
        ((".expand(4, 4)", ".repeat(1, 4)"),),
        needs=">=2.0",
    ),
    "vmap-mask-gradient": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(5, 1, 4, 8)
        masks = torch.zeros(5, 4, 4, requires_grad=True)  # one for each

        def attend(x, mask):
            return attention(x, x, x, attn_mask=mask, need_weights=False)[0]

        torch.func.vmap(attend)(x, masks).sum().backward()
        print("gradient of the masks:", tuple(masks.grad.shape))
        """,
        "RuntimeError: The function '_scaled_dot_product_flash_attention_for_cpu' is not differentiable",
        "gradient of the masks: (5, 4, 4)",
        (
            (
                "torch.func.vmap(attend)(x, masks).sum().backward()",
                "from torch.nn.attention import SDPBackend, sdpa_kernel\n"
                "with sdpa_kernel(SDPBackend.MATH):\n"
                "    output = torch.func.vmap(attend)(x, masks)\n"
                "output.sum().backward()",
            ),
        ),
        helps=">=2.3",
        needs=">=2.3",
    ),
    "vmap-native-gradient": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
        src = torch.randn(5, 1, 4, 8, requires_grad=True)
        torch.func.vmap(layer)(src).sum().backward()
        print("gradient:", tuple(src.grad.shape))
        """,
        "RuntimeError: derivative for aten::_transformer_encoder_layer_fwd is not implemented",
        "gradient: (5, 1, 4, 8)",
        ((".requires_grad_(False)", ""),),
        helps="!=2.1.*,!=2.2.*",  # where vmap cannot map the fused kernel
        needs=">=2.0",
    ),
    "efficient-vmap-mask": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True, device="cuda").eval()
        mask = torch.zeros(4, 4, device="cuda")  # one for all

        def attend(x):
            return attention(x, x, x, attn_mask=mask, need_weights=False)[0]

        output = torch.func.vmap(attend)(torch.randn(5, 1, 4, 8, device="cuda"))
        """,
        "",
        "",
    ),
    "efficient-vmap-mask-stride": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True, device="cuda").eval()

        def attend(x, mask):
            return attention(x, x, x, attn_mask=mask, need_weights=False)[0]

        x, masks = torch.randn(5, 2, 3, 8, device="cuda"), torch.zeros(5, 3, 3, device="cuda")  # 3 keys
        output = torch.func.vmap(attend)(x, masks)
        """,
        "",
        "",
    ),
    # ---- fake tensors, export, TorchScript
    "fake-native-weights": Example(
        """
        from torch._subclasses import FakeTensorMode
        with FakeTensorMode(), torch.no_grad():  # as torch.export and memory estimates do
            attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
            x = torch.randn(2, 4, 8)
            output, weights = attention(x, x, x, need_weights=False)
        print("no weights:", weights is None)
        """,
        "no weights: False",
        "no weights: True",
        (("attention(x, x, x,", "attention(x, x.clone(), x.clone(),"),),
        needs=">=2.1",
    ),
    "exported-masks-out-of-order": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
        x = torch.randn(4, 8)
        mask, padding = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
        masks = dict(attn_mask=mask, key_padding_mask=padding)
        length = torch.export.Dim.AUTO
        shapes = dict.fromkeys(("query", "key", "value", "key_padding_mask"), {0: length})
        shapes |= {"attn_mask": {0: length, 1: length}}
        program = torch.export.export(attention, (x, x, x), masks, dynamic_shapes=shapes)
        print("exported")
        """,
        "KeyError: ",
        "exported",
        (("dict(attn_mask=mask, key_padding_mask=padding)", "dict(key_padding_mask=padding, attn_mask=mask)"),),
        needs=">=2.5",
    ),
    "torchscript-nested-sum": Example(
        f"""{_WITH_TRAINED_PART}
        scripted = torch.jit.script(encoder)
        for step in range(3):  # the second call is optimised
            scripted(src, src_key_padding_mask=padding).sum().backward()
        print("three steps")
        """,
        "RuntimeError: ",
        "three steps",
        _NOT_NESTED,
        needs=">=2.1",
    ),
    # ---- attention written by hand, compiled
    "written-empty-row": Example(
        """
        def attend(query, key, value, mask):
            scores = query @ key.transpose(-2, -1) / 8**0.5 + mask
            return scores.softmax(dim=-1) @ value

        query, key, value = (torch.randn(2, 2, 4, 8) for _ in range(3))
        mask = torch.zeros(4, 4)
        mask[0] = float("-inf")  # the first query sees no key
        eager, compiled = attend(query, key, value, mask), torch.compile(attend)(query, key, value, mask)
        print("NaN in both:", eager.isnan().any().item() and compiled.isnan().any().item())
        """,
        "NaN in both: False",
        "NaN in both: True",
        needs=">=2.6",
    ),
    "written-scale-lost": Example(
        """
        def attend(query, key, value, mask):
            scores = query @ key.transpose(-2, -1) / 2.0 + mask  # not the root of the 8 features
            return scores.softmax(dim=-1) @ value

        query, key, value = (torch.randn(2, 2, 4, 8) for _ in range(3))
        mask = torch.triu(torch.full((4, 4), float("-inf")), diagonal=1)
        eager, compiled = attend(query, key, value, mask), torch.compile(attend)(query, key, value, mask)
        print("eager and compiled agree:", torch.allclose(eager, compiled, atol=1e-5))
        """,
        "eager and compiled agree: False",
        "eager and compiled agree: True",
        (("/ 2.0 + mask", "* 0.5 + mask"),),
        needs=">=2.6",
    ),
    "written-key-transposed": Example(
        """
        def attend(query, key, value, mask):
            query, value = query.permute(0, 2, 1, 3), value.permute(0, 2, 1, 3)
            scores = query @ key.permute(0, 2, 3, 1) / 8**0.5 + mask
            return scores.softmax(dim=-1) @ value

        query, key, value = (torch.randn(1, 4, 4, 8) for _ in range(3))  # one sample, as many heads as positions
        mask = torch.triu(torch.full((4, 4), float("-inf")), diagonal=1)
        eager, compiled = attend(query, key, value, mask), torch.compile(attend)(query, key, value, mask)
        print("eager and compiled agree:", torch.allclose(eager, compiled, atol=1e-5))
        """,
        "eager and compiled agree: False",
        "eager and compiled agree: True",
        (("key.permute(0, 2, 3, 1)", "key.permute(0, 2, 1, 3).transpose(-2, -1)"),),
        needs=">=2.6",
    ),
    "written-batch-key-transposed": Example(
        """
        @torch.no_grad()
        def attend(query, key, value):
            query, value = query.permute(0, 2, 1, 3), value.permute(0, 2, 1, 3)
            scores = query @ key.permute(0, 2, 3, 1) * 8**-0.5
            return scores.softmax(dim=-1) @ value

        query, key, value = (torch.randn(2, 4, 4, 8) for _ in range(3))  # as many heads as positions
        eager, compiled = attend(query, key, value), torch.compile(attend)(query, key, value)
        print("eager and compiled agree:", torch.allclose(eager, compiled, atol=1e-5))
        """,
        "eager and compiled agree: False",
        "eager and compiled agree: True",
        (("key.permute(0, 2, 3, 1)", "key.permute(0, 2, 1, 3).transpose(-2, -1)"),),
        needs=">=2.6",
    ),
    "written-tensor-scale-raises": Example(
        """
        def attend(query, key, value, mask, divisor):
            scores = query @ key.transpose(-2, -1) / divisor + mask
            return scores.softmax(dim=-1) @ value

        query, key, value = (torch.randn(2, 2, 4, 8) for _ in range(3))
        mask = torch.triu(torch.full((4, 4), float("-inf")), diagonal=1)
        output = torch.compile(attend)(query, key, value, mask, torch.tensor(8.0).sqrt())
        print(tuple(output.shape))
        """,
        "BackendCompilerFailed: backend='inductor' raised",
        "(2, 2, 4, 8)",
        (("/ divisor + mask", "* (1 / divisor) + mask"),),
        needs=">=2.6",
    ),
    "built-mask-by-positions": Example(
        """
        def attend(x, padding):
            keys = torch.arange(x.shape[-2])
            sample = torch.arange(len(x))[:, None, None, None]
            mask = (keys <= keys[:, None]) & ~padding[sample, keys]
            return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

        attend = torch.compile(attend)
        for length in (4, 6):
            output = attend(torch.randn(2, 2, length, 8), torch.zeros(2, length, dtype=torch.bool))
        print(tuple(output.shape))
        """,
        "BackendCompilerFailed: CppCompileError: C++ compile error",
        "(2, 2, 6, 8)",
        (("torch.compile(attend)", 'torch.compile(attend, backend="aot_eager")'),),
        needs=">=2.6",
    ),
    "built-mask-of-stepped-key": Example(
        """
        def attend(query, key, value, mask):
            rows, columns = torch.arange(query.shape[-2])[:, None], torch.arange(key.shape[-2])
            mask = (columns <= rows) & mask[rows, columns]
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        attend = torch.compile(attend)
        for length in (6, 4):
            query, key, value = torch.randn(length, 1), torch.randn(length, 2)[:, ::2], torch.randn(length, 1)
            output = attend(query, key, value, torch.ones(length, length, dtype=torch.bool))
        print(tuple(output.shape))
        """,
        "InductorError: CppCompileError: C++ compile error",
        "(4, 1)",
        (("(query, key, value, torch", "(query, key.contiguous(), value, torch"),),
        needs=">=2.13",
    ),
    "built-float64-gradient": Example(
        """
        x = torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
        mask = torch.ones(4, 4, dtype=torch.bool).tril()
        attend = torch.compile(F.scaled_dot_product_attention)
        attend(x, x, x, attn_mask=mask).sum().backward()
        print("x has a gradient:", x.grad is not None)
        """,
        "RuntimeError: expected scalar type Double but found Float",
        "x has a gradient: True",
        (("scaled_dot_product_attention)", 'scaled_dot_product_attention, backend="aot_eager")'),),
        needs=">=2.6",
    ),
}
