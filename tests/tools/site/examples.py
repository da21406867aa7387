"""Examples of entries, as the page shows them: {id: Example}. tests/remedies/test_examples.py runs them.

In an example of eval mode the expected numbers are those of the same call with autograd, which leaves the fast path.
"""

from .example import Example
from .examples_of_flex import EXAMPLES as OF_FLEX
from .examples_of_functions import EXAMPLES as OF_FUNCTIONS
from .examples_of_modes import EXAMPLES as OF_MODES
from .examples_of_nested import EXAMPLES as OF_NESTED
from .examples_of_onnx import EXAMPLES as OF_ONNX
from .examples_of_parts import EXAMPLES as OF_PARTS
from .examples_of_processes import EXAMPLES as OF_PROCESSES
from .examples_of_wrong_masks import EXAMPLES as OF_WRONG_MASKS

_ENCODER = "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2)"

OF_MODULES = {
    # ---- NaN
    "empty-row-nan-explicit": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, True], [True, True, True, True]])  # the second sample is empty
        output, weights = attention(x, x, x, key_padding_mask=padding)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (("key_padding_mask=padding)", "key_padding_mask=padding, need_weights=False)"),),
        helps=">=2.5",
    ),
    "empty-row-nan-native": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, True], [True, True, True, True]])  # the second sample is empty
        with torch.no_grad():
            output = layer(src, src_key_padding_mask=padding)
        print("NaN in the output:", output.isnan().any().item())
        """,
        "NaN in the output: True",
        "NaN in the output: False",
        (
            (
                "with torch.no_grad():",
                "padding[padding.all(dim=1), 0] = False  # it may see its first position\nwith torch.no_grad():",
            ),
        ),
    ),
    "hidden-nan-explicit": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        padding = torch.tensor([[False, False, False, True]])
        x[padding] = float("nan")  # such as torch.empty(), or a loss of precision upstream
        output, weights = attention(x, x, x, key_padding_mask=padding)
        print("NaN at the tokens:", output[~padding].isnan().any().item())
        """,
        "NaN at the tokens: True",
        "NaN at the tokens: False",
        (("output, weights", "x = x.masked_fill(padding[..., None], 0)\noutput, weights"),),
    ),
    "hidden-nan-native": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        src = torch.randn(1, 4, 8)
        padding = torch.tensor([[False, False, False, True]])
        src[padding] = float("nan")
        with torch.no_grad():
            output = layer(src, src_key_padding_mask=padding)
        print("NaN at the tokens:", output[~padding].isnan().any().item())
        """,
        "NaN at the tokens: True",
        "NaN at the tokens: False",
        (("with torch.no_grad():", "src = src.masked_fill(padding[..., None], 0)\nwith torch.no_grad():"),),
    ),
    "nan-mask-spreads": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2)
        padding = torch.tensor([[False, False, False, True]])
        near = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
        bias = near / near.sum(1, keepdim=True)  # 0 / 0 in the row of the padded query
        output = encoder(torch.randn(1, 4, 8), bias, torch.zeros(1, 4).masked_fill(padding, -torch.inf))
        print("NaN at the tokens:", output[~padding].isnan().any().item())
        """,
        "NaN at the tokens: True",
        "NaN at the tokens: False",
        (("output =", "bias = bias.nan_to_num()\noutput ="),),
    ),
    # ---- train and eval differ
    "native-layer-float-mask": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        src = torch.randn(1, 4, 8)
        distance = (torch.arange(4) - torch.arange(4)[:, None]).abs()
        bias = -0.5 * distance  # as ALiBi: farther keys weigh less
        padding = torch.zeros(1, 4).masked_fill(torch.tensor([[False, False, False, True]]), -2.0)  # a soft mask
        in_training = layer(src, src_mask=bias, src_key_padding_mask=padding)
        layer.eval()
        with torch.no_grad():
            in_eval = layer(src, src_mask=bias, src_key_padding_mask=padding)
        print("train and eval agree:", torch.allclose(in_eval, in_training, atol=1e-5))
        """,
        "train and eval agree: False",
        "train and eval agree: True",
        (("with torch.no_grad():", "torch.backends.mha.set_fastpath_enabled(False)\nwith torch.no_grad():"),),
        helps=">=2.3",
        needs=">=2.0",
    ),
    "native-mha-float-mask": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(1, 4, 8)
        padding = torch.tensor([[0.0, 0.0, 0.0, -2.0]])  # weighs the last key down, does not hide it
        in_training = attention(x, x, x, key_padding_mask=padding)[0]
        attention.eval()
        with torch.no_grad():
            in_eval = attention(x, x, x, key_padding_mask=padding)[0]
        print("train and eval agree:", torch.allclose(in_eval, in_training, atol=1e-5))
        """,
        "train and eval agree: False",
        "train and eval agree: True",
        (("attention(x, x, x,", "attention(x, x.clone(), x.clone(),"),),
    ),
    "nested-padding-zero": Example(
        f"""
        encoder = {_ENCODER}
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        encoder.eval()
        with torch.no_grad():
            output = encoder(src, src_key_padding_mask=padding)
        print("zeros at padding:", (output[padding] == 0).all().item())
        """,
        "zeros at padding: True",
        "zeros at padding: False",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
    ),
    "nested-truncates": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, True, True], [False, False, False, True]])  # padded to a fixed length
        with torch.no_grad():
            output = encoder(src, src_key_padding_mask=padding)
        print("length:", output.shape[1])
        """,
        "length: 3",
        "length: 4",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
    ),
    "nested-float-padding": Example(
        f"""
        encoder = {_ENCODER}
        src = torch.randn(2, 4, 8)
        padding = torch.zeros(2, 4)
        padding[1, 3] = -2.0  # weighs the last position down, does not hide it
        in_training = encoder(src, src_key_padding_mask=padding)
        encoder.eval()
        with torch.no_grad():
            in_eval = encoder(src, src_key_padding_mask=padding)
        print("train and eval agree:", torch.allclose(in_eval, in_training, atol=1e-5))
        """,
        "train and eval agree: False",
        "train and eval agree: True",
        (("with torch.no_grad():", "src.requires_grad_()\nwith torch.enable_grad():"),),
    ),
    "nested-all-padding": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(2, 4, 8)
        padding = torch.ones(2, 4, dtype=torch.bool)  # a batch of empty samples
        with torch.no_grad():
            output = encoder(src, src_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "RuntimeError: to_padded_tensor: at least one constituent tensor should have non-zero numel",
        "(2, 4, 8)",
        (
            (
                "with torch.no_grad():",
                "padding[padding.all(dim=1), 0] = False  # it may see its first position\nwith torch.no_grad():",
            ),
        ),
        needs=">=2.1",
    ),
    "nested-unaligned": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2, mask_check=False)
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [True, True, False, False]])  # padding on the left
        in_training = encoder(src, src_key_padding_mask=padding)
        encoder.eval()
        with torch.no_grad():
            in_eval = encoder(src, src_key_padding_mask=padding)
        print("right at the tokens:", torch.allclose(in_eval[~padding], in_training[~padding], atol=1e-5))
        """,
        "right at the tokens: False",
        "right at the tokens: True",
        ((", mask_check=False", ""),),
    ),
    "nested-prototype-warning": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        with torch.no_grad():
            output = encoder(src, src_key_padding_mask=padding)
        print("no warning")
        """,
        "UserWarning: The PyTorch API of nested tensors is in prototype stage",
        "no warning",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
    ),
    "nested-partly-frozen": Example(
        f"""
        encoder = {_ENCODER}.eval()
        encoder.layers[0].requires_grad_(False)  # fine-tune the later layers
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        output = encoder(src, src_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "AssertionError: MultiheadAttention does not support NestedTensor outside of its fast path",
        "(2, 4, 8)",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
    ),
    # ---- activations
    "decoder-activation-module": Example(
        """
        layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, activation=nn.GELU(), batch_first=True)
        decoder = nn.TransformerDecoder(layer, 1)
        decoder.load_state_dict({f"layers.0.{name}": value for name, value in layer.state_dict().items()})
        tgt, memory = torch.randn(1, 4, 8), torch.randn(1, 5, 8)
        print("stack and layer agree:", torch.allclose(decoder(tgt, memory), layer(tgt, memory)))
        """,
        "stack and layer agree: False",
        "stack and layer agree: True",
        (("activation=nn.GELU()", "activation=F.gelu"),),
    ),
    "native-layer-gelu-tanh": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=nn.GELU("tanh"), batch_first=True)
        src = torch.randn(1, 4, 8)
        in_training = layer(src)
        layer.eval()
        with torch.no_grad():
            in_eval = layer(src)
        print("train and eval agree:", torch.allclose(in_eval, in_training, atol=1e-6))
        """,
        "train and eval agree: False",
        "train and eval agree: True",
        (('nn.GELU("tanh")', 'lambda x: F.gelu(x, approximate="tanh")'),),
    ),
    # ---- gradients
    "causal-mask-gradient": Example(
        f"""
        encoder = {_ENCODER}
        src = torch.randn(2, 4, 8)
        mask = torch.triu(torch.full((4, 4), float("-inf")), diagonal=1).requires_grad_()  # a learned causal bias
        encoder(src, mask=mask).sum().backward()
        print("gradient of the mask:", "none" if mask.grad is None else "present")
        """,
        "gradient of the mask: none",
        "gradient of the mask: present",
        (("mask=mask)", "mask=mask.expand(2 * 2, 4, 4))"),),
    ),
    "native-layer-mask-gradient": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
        src = torch.randn(2, 4, 8)
        mask = torch.zeros(4, 4, requires_grad=True)  # learned, while the layer is frozen
        layer(src, src_mask=mask).sum().backward()
        print("backward is done")
        """,
        "RuntimeError: derivative for aten::_transformer_encoder_layer_fwd is not implemented",
        "backward is done",
        (("layer(src,", "layer(src.requires_grad_(),"),),
        needs=">=2.0",
    ),
    # ---- causal masks and hints
    "causal-hint-hides-appended-keys": Example(
        """
        attention = nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True)
        x = torch.randn(1, 4, 8)
        mask = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        without_hint = attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        with_hint = attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
        print("the hint changes nothing:", torch.allclose(without_hint, with_hint, atol=1e-6))
        """,
        "the hint changes nothing: False",
        "the hint changes nothing: True",
        ((", is_causal=True", ""),),
        needs=">=2.0.1",
    ),
    "native-hint-without-mask": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(1, 4, 8)
        other = src.clone()
        other[:, 3] = 0.0  # another last token
        with torch.no_grad():
            outputs = [encoder(x, is_causal=True) for x in (src, other)]
        print("the first token sees the last:", not torch.allclose(outputs[0][:, 0], outputs[1][:, 0]))
        """,
        "the first token sees the last: True",
        "the first token sees the last: False",
        (("is_causal=True", "mask=nn.Transformer.generate_square_subsequent_mask(4), is_causal=True"),),
        needs=">=2.0",
    ),
    "hint-hides-mask": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        src = torch.randn(1, 4, 8)
        window = torch.ones(4, 3, dtype=torch.bool)  # three keys, not four
        output = layer(src, src_mask=window, is_causal=True)
        print("accepted")
        """,
        "accepted",
        "RuntimeError: The shape of the 2D attn_mask",
        ((", is_causal=True", ""),),
        needs=">=2.0.1",
    ),
    "traced-causal-mask": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        src = torch.randn(1, 4, 8)
        causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        nothing = torch.zeros(4, 4, dtype=torch.bool)  # hides no key
        traced = torch.jit.trace(encoder, (src, causal), check_trace=False)
        print("the trace applies its mask:", torch.allclose(traced(src, nothing), encoder(src, nothing), atol=1e-5))
        """,
        "the trace applies its mask: False",
        "the trace applies its mask: True",
        (("(src, causal)", "(src, nothing)"),),
    ),
    # ---- autocast, compile
    "autocast-nested-raises": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            output = encoder(src, src_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "RuntimeError: ",
        "(2, 4, 8)",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
        helps=">=2.6",
        needs=">=2.0.1",
    ),
    "autocast-mask-raises": Example(
        """
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = attention(x, x, x, key_padding_mask=padding, need_weights=False)
        print(tuple(output.shape))
        """,
        "RuntimeError: Expected attn_mask dtype to be bool or to match query dtype",
        "(2, 4, 8)",
        (("need_weights=False", "need_weights=True"),),
        needs=">=2.0",
    ),
    "compiled-whole-padding-raises": Example(
        f"""
        encoder = {_ENCODER}.eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        compiled = torch.compile(encoder, fullgraph=True, backend="eager")
        output = compiled(src, src_key_padding_mask=padding)
        print(tuple(output.shape))
        """,
        "Unsupported: ",
        "(2, 4, 8)",
        (("batch_first=True), 2)", "batch_first=True), 2, enable_nested_tensor=False)"),),
        needs=">=2.5",
    ),
    # ---- shapes and other options
    "native-padding-by-elements": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
        src = torch.randn(2, 4, 8)
        padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
        causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        with torch.no_grad():
            output = layer(src, src_mask=causal, src_key_padding_mask=padding.T.contiguous())  # (S, N)
        print("accepted")
        """,
        "accepted",
        "an error that names the padding mask",
        needs=">=2.0",
    ),
    "native-mask-size-unnamed": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        src = torch.randn(2, 6, 8)
        mask = torch.zeros(3, 6, dtype=torch.bool)  # half of it, as nn.DataParallel gives it
        with torch.no_grad():
            layer(src, src_mask=mask)
        """,
        "RuntimeError: shape '[1, 1, 6, 6]' is invalid for input of size 18",
        "RuntimeError: The shape of the 2D attn_mask is torch.Size([3, 6]), but should be (6, 6).",
        (("with torch.no_grad():", "src.requires_grad_()\nwith torch.enable_grad():"),),
    ),
    "native-layer-bias": Example(
        """
        layer = nn.TransformerEncoderLayer(8, 2, 16, bias=False, batch_first=True).eval()
        with torch.no_grad():
            output = layer(torch.randn(2, 4, 8))
        print(tuple(output.shape))
        """,
        "AttributeError: 'NoneType' object has no attribute 'device'",
        "(2, 4, 8)",
        needs=">=2.1",
    ),
    "native-mha-bias": Example(
        """
        attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True).eval()
        x = torch.randn(2, 4, 8)
        with torch.no_grad():
            output, _ = attention(x, x, x)
        print(tuple(output.shape))
        """,
        "TypeError: ",
        "(2, 4, 8)",
        (("attention(x, x, x)", "attention(x, x.clone(), x.clone())"),),
        needs=">=1.13.1",
    ),
}

EXAMPLES = (
    OF_MODULES | OF_FUNCTIONS | OF_FLEX | OF_MODES | OF_NESTED | OF_ONNX | OF_PARTS | OF_PROCESSES | OF_WRONG_MASKS
)
