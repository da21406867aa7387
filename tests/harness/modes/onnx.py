"""Modes that write a module or function as an ONNX file, and let onnxruntime run it."""

from dataclasses import replace

from .mode import MODULES, SDPA, Mode

_ONNX = """\
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
        EXPORT
    return file.getvalue()

def stored(*given, **options):
    if not programs:
        programs.append(onnxruntime.InferenceSession(as_file(*given, **options), providers=["CPUExecutionProvider"]))
    tensors = distinct(*given, *options.values())
    named = {f"tensor_{place}": tensor.detach().numpy() for place, tensor in enumerate(tensors)}
    inputs = {its.name: named[its.name] for its in programs[0].get_inputs()}  # a file may leave out what is not used
    results = tuple(map(torch.from_numpy, programs[0].run(None, inputs)))
    return results if len(results) > 1 else results[0]
"""
_TAKES = 'tuple(tensors), file, input_names=[f"tensor_{place}" for place in range(len(tensors))]'
ONNX = _ONNX.replace(
    "EXPORT",
    "program = torch.export.export(call, tuple(tensors), strict=False)\n"
    f"        torch.onnx.export(program, {_TAKES}, dynamo=True, verbose=False)",
)
ONNX_DYNAMIC = _ONNX.replace(
    "EXPORT",
    "sizes = [[axis for axis in range(its.ndim) if (its.ndim, axis) != (4, 1)] for its in tensors]  # but heads\n"
    "        sizes = tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in sizes)\n"
    "        copies = tuple(tensor.clone() for tensor in tensors)  # the exporter fails on views, of any function\n"
    "        program = torch.export.export(call, copies, dynamic_shapes={'its': sizes}, strict=False)\n"
    f"        torch.onnx.export(program, {_TAKES}, dynamo=True, verbose=False)",
)
ONNX_SCRIPT = _ONNX.replace(
    "EXPORT", f"torch.onnx.export(call, {_TAKES}, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE)"
)

SCRIPT = "onnx_script"  # the older exporter, which traces the module with TorchScript
IDS = ("onnx", "onnx_dynamic", SCRIPT)
SINCE = "2.9"  # before, torch and the onnxscript of today do not fit
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def modes(exported: Mode) -> tuple[Mode, ...]:
    """The modes of both exporters. exported: the mode of torch.export, by which the newer exporter begins."""
    stored = replace(
        exported,
        id="onnx",
        kin=exported.id,
        made=ONNX,
        called="stored",
        packages=PACKAGES,
        calls=(*[MODULES] * 2, SDPA),
        decomposes=True,
        serves="",
        times=1,
        drops=False,
        converts_masks=False,  # NumPy, which brings masks to onnxruntime, has no bfloat16
        only_on="cpu",
        since=SINCE,
    )
    dynamic = replace(
        stored,
        id="onnx_dynamic",
        made=ONNX_DYNAMIC,
        serves="sizes",
        since="2.10",  # before, the exporter fails in the guards of programs with open sizes
    )
    return stored, dynamic, replace(stored, id=SCRIPT, kin=None, made=ONNX_SCRIPT, decomposes=False)
