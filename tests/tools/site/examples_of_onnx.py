"""Examples of entries about models that are stored as ONNX files: {id: Example}."""

from .example import Example

_MODEL = """
        import io, numpy, onnxruntime
        class Model(nn.Module):
            def forward(self, {names}):
                return F.scaled_dot_product_attention({arguments})
        {inputs}
        file = io.BytesIO()
        torch.onnx.export(Model(), inputs, file, dynamo={newer}, verbose=False)
        session = onnxruntime.InferenceSession(file.getvalue())
        names = [its.name for its in session.get_inputs()]
        output = session.run(None, dict(zip(names, map(numpy.asarray, inputs))))[0]
        print({looks})
        """
_LOOKS = '"NaN in the output:", bool(numpy.isnan(output).any())'
_NAN, _NO_NAN = "NaN in the output: True", "NaN in the output: False"
_SHAPE = "output.shape"


def _code(arguments, inputs, looks, newer=True):
    """The code of an example. arguments: of the function, by the names of the inputs. inputs: a statement."""
    names = "x, mask" if "mask" in arguments else "x, key" if "key" in arguments else "x"
    return _MODEL.format(names=names, arguments=arguments, inputs=inputs, looks=looks, newer=newer)


EXAMPLES = {
    "onnx-empty-row-nan": Example(
        _code(
            "x, x, x, attn_mask=mask",
            "inputs = torch.randn(1, 1, 4, 8), torch.tensor([[0.0, 0, 0, 0], [-torch.inf] * 4, *[[0.0, 0, 0, 0]] * 2])",
            _LOOKS,
        ),
        _NAN,
        _NO_NAN,
        (("[-torch.inf] * 4", "[0.0, *[-torch.inf] * 3]"),),
        needs=">=2.9",
    ),
    "onnx-empty-row-mean": Example(
        _code(
            "x, x, x, attn_mask=mask",
            "inputs = torch.ones(1, 1, 4, 8), torch.ones(4, 4).tril(-1).bool()  # the first query sees no key",
            '"the first query gives", output[0, 0, 0, 0]',
        ),
        "the first query gives 1.0",
        "the first query gives 0.0",
        needs=">=2.9",
    ),
    "onnx-negative-scale": Example(
        _code("x, x, x, scale=-1.0", "inputs = (torch.randn(1, 1, 4, 8),)", _LOOKS),
        _NAN,
        _NO_NAN,
        (("(x, x, x, scale=-1.0)", "(-x, x, x, scale=1.0)"),),
        needs=">=2.9",
    ),
    "onnx-native-raises": Example(
        """
        import io
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        src = torch.randn(2, 4, 8)
        with torch.no_grad():
            torch.onnx.export(layer, (src,), io.BytesIO(), dynamo=False, verbose=False)
        print("exported")
        """,
        "UnsupportedOperatorError: aten::_transformer_encoder_layer_fwd",
        "exported",
        (("dynamo=False", "dynamo=True"),),
        needs=">=2.9",
    ),
    "onnx-groups-raise": Example(
        _code(
            "x, key, key, enable_gqa=True",
            "inputs = torch.randn(1, 4, 4, 8), torch.randn(1, 2, 4, 8)",
            _SHAPE,
            newer=False,
        ),
        "AssertionError: not implemented if enable_gqa is True",
        "(1, 4, 4, 8)",
        (("dynamo=False", "dynamo=True"),),
        needs=">=2.9",
    ),
    "onnx-dimensions-raise": Example(
        _code("x, x, x", "inputs = (torch.randn(2, 4, 8),)", _SHAPE),
        "ConversionError: only 4D query, key, and value are supported",
        "(2, 4, 8)",
        (("dynamo=True", "dynamo=False"),),
        needs=">=2.9",
    ),
}
