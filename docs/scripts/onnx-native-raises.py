# The TorchScript exporter to ONNX refuses the operators of the fast paths (pytorch/pytorch#94434).
# To avoid it: Export with dynamo=True (if the module is an nn.MultiheadAttention, and no query is fully masked).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if no query is fully masked, and
#     masks are bool or of the inputs' dtype; cost: global: every module of the process leaves its fast path, which is
#     slower).

import importlib.util
import io
import sys
import warnings

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

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

module = torch.nn.MultiheadAttention(embed_dim=2, num_heads=2, batch_first=True)
module.eval()
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
        torch.onnx.export(call, tuple(tensors), file, input_names=[f"tensor_{place}" for place in range(len(tensors))], dynamo=False, training=torch.onnx.TrainingMode.PRESERVE)
    return file.getvalue()

def stored(*given, **options):
    if not programs:
        programs.append(onnxruntime.InferenceSession(as_file(*given, **options), providers=["CPUExecutionProvider"]))
    tensors = distinct(*given, *options.values())
    named = {f"tensor_{place}": tensor.detach().numpy() for place, tensor in enumerate(tensors)}
    inputs = {its.name: named[its.name] for its in programs[0].get_inputs()}  # a file may leave out what is not used
    results = tuple(map(torch.from_numpy, programs[0].run(None, inputs)))
    return results if len(results) > 1 else results[0]

query = torch.tensor([[[0.126, -0.132]]])

try:
    with torch.no_grad():
        stored(query, query, query)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
