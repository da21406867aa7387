# A negative scale gives NaN in a model that is stored as an ONNX file.
# To avoid it: No remedy: none that keeps the scale: negate the query by hand, and give the scale without its sign.

import importlib.util
import io
import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    print("not applicable: this release has no torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

if not hasattr(torch, "export"):
    print("not applicable: this release has no torch.export")
    sys.exit(2)

if torch.__version__ < "2.9":
    print("not applicable: this release has no such call, only 2.9 and later have")
    sys.exit(2)

if importlib.util.find_spec("onnx") is None:
    print("not applicable: this release has no onnx, which runs the call")
    sys.exit(2)

if importlib.util.find_spec("onnxscript") is None:
    print("not applicable: this release has no onnxscript, which runs the call")
    sys.exit(2)

if importlib.util.find_spec("onnxruntime") is None:
    print("not applicable: this release has no onnxruntime, which runs the call")
    sys.exit(2)

if "scale=" not in torch.nn.functional.scaled_dot_product_attention.__doc__:
    print("not applicable: this release has no scale in torch.nn.functional.scaled_dot_product_attention")
    sys.exit(2)

module = torch.nn.functional.scaled_dot_product_attention
import onnxruntime

programs = []

def distinct(*values):
    return list({id(value): value for value in values if isinstance(value, torch.Tensor)}.values())

def as_file(*given, **options):
    tensors = distinct(*given, *options.values())

    class Call(torch.nn.Module):
        def forward(self, *its):
            its = dict(zip(map(id, tensors), its))  # identity marks self-attention
            moved = {name: its.get(id(value), value) for name, value in options.items()}
            results = module(*(its[id(tensor)] for tensor in given), **moved)
            return tuple(result for result in results if result is not None) if type(results) is tuple else results

    call, file = Call(), io.BytesIO()
    call.module = module
    call.train(getattr(module, "training", False))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        program = torch.export.export(call, tuple(tensors), strict=False)
        torch.onnx.export(program, tuple(tensors), file, input_names=[f"tensor_{place}" for place in range(len(tensors))], dynamo=True, verbose=False)
    return file.getvalue()

def stored(*given, **options):
    if not programs:
        programs.append(onnxruntime.InferenceSession(as_file(*given, **options), providers=["CPUExecutionProvider"]))
    tensors = distinct(*given, *options.values())
    named = {f"tensor_{place}": tensor.detach().numpy() for place, tensor in enumerate(tensors)}
    inputs = {its.name: named[its.name] for its in programs[0].get_inputs()}  # a file may leave out what is not used
    results = tuple(map(torch.from_numpy, programs[0].run(None, inputs)))
    return results if len(results) > 1 else results[0]

query = torch.tensor([[[[0.126]]]])
key = torch.tensor([[[[-0.132]]]])
value = torch.tensor([[[[0.64]]]])

with torch.no_grad():
    output = stored(query, key, value, scale=-1.0)

expected = torch.tensor([[[[0.64]]]])
print("expected output", expected)
print("got output", output)
wrong = output.shape != expected.shape
wrong = wrong or not torch.allclose(output, expected, rtol=0, atol=5e-06)

sys.exit(bool(wrong))
