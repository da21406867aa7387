"""Modes that adapt, wrap, hook, override or quantize parts of a module.

Each part that is not quantized computes twice the result, which its adapter, its hook or an overriding method halves.
All factors are powers of two, so that the halves are exact.
"""

from dataclasses import replace
from typing import Any

from .mode import Mode

_COPIED = "module = copy.deepcopy(module)\n"

# An adapter as of LoRA, with the attributes of the part that it adapts. Its update is frozen.
_ADAPTED = f"""\
class Adapted(torch.nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.update = base, copy.deepcopy(base).requires_grad_(False)
        for learned, change in zip(base.parameters(), self.update.parameters()):
            learned.data.mul_(2)
            change.data.mul_(-1)

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    @property
    def eps(self):
        return self.base.eps

    def forward(self, values):
        return self.base(values) + self.update(values)

{_COPIED}
for path, part in list(module.named_modules()):
    owner, _, name = path.rpartition(".")
    if IS_MEANT:
        setattr(module.get_submodule(owner), name, Adapted(part))
"""
_IS_OF_LAYER, _IS_PROJECTION = 'name[:-1] in ("linear", "norm")', 'name == "out_proj"'

# A wrapper without the attributes of the part: around out_proj of an attention, around the linear parts of layers.
_WRAPPED = f"""\
{_COPIED}
for path, part in list(module.named_modules()):
    owner, _, name = path.rpartition(".")
    if path == "out_proj" or name[:-1] == "linear":
        setattr(module.get_submodule(owner), name, torch.nn.Sequential(part))
"""

_HALVED = f"""\
class Doubled(torch.nn.Module):
    def forward(self, values):
        return 2 * values

def double(part):
    for name in ("weight", "bias"):
        if getattr(part, name) is not None:
            parametrize.register_parametrization(part, name, Doubled())

def halved(result):
    return (0.5 * result[0], *result[1:]) if type(result) is tuple else 0.5 * result

{_COPIED}"""

_HOOKED = f"""\
{_HALVED}
for path, part in list(module.named_modules()):
    name = path.rpartition(".")[2]
    if IS_MEANT:
        double(getattr(part, "out_proj", part))
        part.register_forward_hook(lambda part, given, result: halved(result))
"""
_IS_ATTENTION = "isinstance(part, torch.nn.MultiheadAttention)"

_OVERRIDDEN = f"""\
{_HALVED}
def override(part, name):
    base = type(part)
    method = lambda self, *given, **options: halved(getattr(base, name)(self, *given, **options))
    part.__class__ = type("Own", (base,), {{name: method}})

for part in list(module.modules()):
    if {_IS_ATTENTION}:
        double(part.out_proj)
        override(part, "forward")
    if isinstance(part, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        double(part.self_attn.out_proj)
        double(part.linear2)
        override(part, "_sa_block")
        override(part, "_ff_block")
"""

_ON_CPU: dict[str, Any] = {"drops": True, "everywhere": False, "only_on": "cpu"}  # measured on CPU only
_ADAPTED_MODE = Mode(
    "adapted",
    _ADAPTED.replace("IS_MEANT", _IS_OF_LAYER),
    parameter="{path}base.{leaf}",
    renames=r"(linear|norm)\d\.",
    **_ON_CPU,
)
_HOOKED_MODE = Mode(
    "hooked",
    _HOOKED.replace("IS_MEANT", f"{_IS_OF_LAYER} or {_IS_ATTENTION}"),
    parameter="{path}parametrizations.{leaf}.original",
    renames=r"(linear\d|norm\d|out_proj)\.",
    **_ON_CPU,
)
_HOOKED_PROJECTION = replace(
    _HOOKED_MODE,
    id="hooked_projection",
    kin="hooked",
    made=_HOOKED.replace("IS_MEANT", _IS_PROJECTION),
    renames=r"out_proj\.",
)
OF_PARTS = (
    _ADAPTED_MODE,
    replace(
        _ADAPTED_MODE,
        id="adapted_projection",
        kin="adapted",
        made=_ADAPTED.replace("IS_MEANT", _IS_PROJECTION),
        renames=r"out_proj\.",
    ),
    Mode("wrapped", _WRAPPED, parameter="{path}0.{leaf}", renames=r"^out_proj\.|linear\d\.", **_ON_CPU),
    _HOOKED_MODE,
    _HOOKED_PROJECTION,
    replace(_HOOKED_MODE, id="overridden", made=_OVERRIDDEN, renames=r"(linear2|out_proj)\."),
)
QUANTIZED = Mode(
    "quantized",
    "quantize = torch.ao.quantization.quantize_dynamic\n"
    "quantized = quantize(module, {torch.nn.Linear}, dtype=torch.qint8).train(module.training)",
    "quantized",
    quantizes=True,
    differentiates=False,  # quantized layers have no derivative
    needs="ao.quantization.quantize_dynamic",
    everywhere=False,
    only_on="cpu",  # quantized kernels are for CPUs
)
HOOKED_ATTENTION = replace(_HOOKED_PROJECTION, id="hooked_attention", made=_HOOKED.replace("IS_MEANT", _IS_ATTENTION))
