"""Modes: ways to create and call a module or function that do not change its results. Each case names a mode.

A mode is Python text. The suite executes this text, and reports show it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.checkpoint
from packaging.version import Version

from ..path_names import SDPA_FLASH, SDPA_MATH
from . import code, onnx, reading, vmap, written
from .by_position import BY_POSITION
from .distributed import DISTRIBUTED
from .flex import FLEX_DEBUGGED
from .mode import FLEX, FUNCTIONAL, MODULES, SDPA, Mode
from .nested import NESTED
from .parts import HOOKED_ATTENTION, OF_PARTS, QUANTIZED
from .shared_masks import SHARED_MASKS, SHARED_SEQUENCES

if TYPE_CHECKING:
    from ..cases.case import Case


def is_closed_by_export(case: "Case", version: Version) -> bool:
    """True if the mode exports the module, and in this version of torch the exported module leaves its fast path.

    Since 2.4 every exported module leaves it. Earlier, only modules with frozen parameters do, as export treats these
    as trained.
    """
    if BY_ID[case.mode].family != "exported" or case.mode == "exported_strict":
        return False
    return version.release >= (2, 4) or case.autograd == "frozen"


# Kinds of calls, repeated by weight; see `Mode.calls`.
_ALL = (*[MODULES] * 6, FUNCTIONAL, *[SDPA] * 3)

_BACKEND = "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.{}_ATTENTION)"
MATH, _FLASH, _CHOOSES = _BACKEND.replace("{}_ATTENTION", "MATH"), _BACKEND.format("FLASH"), "nn.attention"


if not hasattr(torch.nn, "attention"):  # before 2.3: its predecessor
    MATH, _FLASH, _CHOOSES = (
        "torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)",
        "torch.backends.cuda.sdp_kernel(enable_math=False, enable_mem_efficient=False)",
        "backends.cuda.sdp_kernel",
    )


_ON_MATH: dict[str, Any] = {"within": MATH, "kernel": SDPA_MATH}

_UNBATCHED = "performance drop because we have not yet implemented the batching rule"

_TRACED: dict[str, Any] = {
    # some of these warn of the backward pass, or of caches that the environment disables
    "warns": "[Dd]ynamo|Graph break|nested tensors is in prototype|Error detected in .*NotImplemented"
    "|Skipping serialization of",  # of a setting of its own, in 2.6
    "compiles": True,
    "is_watched": False,
    "everywhere": False,
}

_COMPILED = Mode(
    "compiled",
    code.compiled('backend="aot_eager"'),
    "compiled",
    calls=(*[MODULES] * 4, SDPA),
    needs="compile",
    since="2.1",  # before, torch.compile does not support Python 3.11
    serves="masks",
    drops=True,
    **_TRACED,
)

_EXPORTED = Mode(
    "exported",
    code.EXPORT,
    "exported",
    calls=(*[MODULES] * 3, SDPA),
    needs="export",
    since="2.3",  # before, export takes no keyword arguments
    serves="masks",
    drops=True,
    differentiates=False,
    times=2,
    **_TRACED,
)

_EXPORTED_DYNAMIC = replace(
    _EXPORTED,
    id="exported_dynamic",
    kin="exported",
    made=code.EXPORT_DYNAMIC,
    serves="sizes",
    times=1,
    calls=(MODULES,),
    since="2.5",  # before, export cannot infer the dynamic sizes
)

_TORCHSCRIPT = Mode(
    "",
    needs="jit",
    times=2,
    drops=hasattr(torch, "func"),  # before 2.0, its derivative of dropout draws other random numbers
    **{
        **_TRACED,
        "warns": "TorchScript|torch.jit|ScriptModule|(Converting|Iterating over) a tensor|nested tensors is in proto",
    },
)

_TRACE = replace(_TORCHSCRIPT, id="traced", made=code.TRACED, called="traced")

_VJP = Mode("func_vjp", code.VJP, "differentiated", calls=_ALL, needs="func", since="2.0")
_JACREV = replace(
    _VJP,
    id="func_jacrev",
    kin="func_vjp",
    made=code.JACREV,
    is_for_small=True,
    is_watched=False,
    everywhere=False,
    warns=_UNBATCHED,
)

_BATCHED = replace(
    _JACREV,
    id="batched_gradients",  # as torch.autograd.functional.jacobian(vectorize=True) takes them
    kin=None,
    made=code.BATCHED_GRADIENTS,
    is_watched=True,
    drops=True,
    only_on="cpu",  # measured on CPU only
)

_ACCUMULATED = replace(
    _BATCHED,
    id="accumulated_gradients",  # by `backward`, in `grad`: of one result after the other, each twice
    made=code.ACCUMULATED_GRADIENTS,
    is_for_small=False,
    warns="gradient layout contract",  # of expanded or empty masks, up to 2.5
)

_REENTRANT = replace(
    _ACCUMULATED,
    id="checkpoint_reentrant",
    made=code.CHECKPOINT_REENTRANT,
    # without autograd the fused kernel serves masks of another dtype, which it misreads
    converts_masks=False,
)

_PER_SAMPLE = replace(
    _JACREV,
    id="per_sample_gradients",
    kin=None,
    made=code.PER_SAMPLE,
    only_on="cpu",  # measured on CPU only
    since="2.3",  # before, vmap cannot call the fused kernel
)

_JVP = Mode(
    "func_jvp",
    code.JVP,
    "differentiated",
    calls=_ALL,
    is_forward=True,
    # before 2.1, a float64 mask raises if query or key has a tangent, and is converted otherwise
    converts_masks=Version(torch.__version__) >= Version("2.1"),
    needs="func",
    everywhere=False,
    since="2.0",
    warns="torch.jit.script",  # torch.func.jvp compiles its formulas with it
)

_TWICE = Mode(
    "second_derivatives",  # of gradient penalties, of MAML, of Hessians
    calls=_ALL,
    is_second_order=True,
    # 1.13 adds a float64 mask of -1e9 to float32 scores in another precision when it differentiates again
    converts_masks=Version(torch.__version__) >= Version("2.0"),
    drops=True,
    everywhere=False,
    only_on="cpu",  # measured on CPU only
)

_MAPPED, _MAPPED_SEQUENCES, _MAPPED_MASKS = vmap.modes(_ALL, _UNBATCHED)

_BIASED = Mode(
    "causal_upper_left",
    code.UPPER_LEFT,
    "biased",
    calls=(SDPA,),
    since="2.3",
    is_watched=False,  # the bias does not recognise a replaced scaled_dot_product_attention
    everywhere=False,
    drops=True,
)

_AUTOCAST = Mode(
    "autocast",
    within="torch.autocast(DEVICE, dtype=torch.bfloat16)",
    # before 2.2, autocast has no rule for scaled_dot_product_attention
    calls=_ALL if Version(torch.__version__) >= Version("2.2") else (*[MODULES] * 6, FUNCTIONAL),
    lowers="bfloat16",
    drops=True,
    times=2,
    since="2.0",
    everywhere=False,
)

# a norm that is divided out changes the gradients of parameters
_NORMED: dict[str, Any] = {"differentiates": False, "drops": True, "everywhere": False, "only_on": "cpu"}

_MATRICES = r"(in_proj_|[qkv]_proj_|out_proj\.|linear\d\.)weight"

_NORMED_BY_HOOKS = Mode(
    "weight_normed_by_hooks", code.WEIGHT_NORMED_BY_HOOKS, kin="pruned", parameter="{path}{leaf}_v", **_NORMED
)

EAGER = Mode("eager", drops=True)
MODES = (
    EAGER,
    Mode("deepcopy", "module = copy.deepcopy(module)", drops=True),
    Mode(
        "saved",
        "file = io.BytesIO()\ntorch.save(module, file)\nfile.seek(0)\nmodule = torch.load(file, weights_only=False)",
        drops=True,
    ),
    Mode(
        "state_dict",
        "state = module.state_dict()\n"
        "module = copy.deepcopy(module).to_empty(device=next(module.parameters()).device)\n"
        "module.load_state_dict(state)",
        drops=True,
    ),
    Mode(
        "materialised",
        "state = module.state_dict()\n"
        "device = next(module.parameters()).device\n"
        "module = copy.deepcopy(module).to('meta').to_empty(device=device)\n"
        "module.load_state_dict(state)",
        drops=True,
    ),
    Mode(
        "functional_call",
        "hollow = copy.deepcopy(module).to('meta')",
        "lambda *given, **options: torch.func.functional_call(hollow, dict(module.named_parameters()), given, options)",
        needs="func",
        since="2.0",
        drops=True,
    ),
    _VJP,
    _JACREV,
    _BATCHED,
    _ACCUMULATED,
    _PER_SAMPLE,
    _JVP,
    # only the math backend has forward-mode derivatives, since 2.1
    replace(_JVP, id="func_jvp_math", kin="func_jvp", needs=_CHOOSES, since="2.1", **_ON_MATH),
    _TWICE,
    replace(_TWICE, id="second_derivatives_math", kin="second_derivatives", needs=_CHOOSES, since="2.0", **_ON_MATH),
    Mode(
        "checkpoint",
        calls=(*[MODULES] * 7, FLEX),
        called="functools.partial(torch.utils.checkpoint.checkpoint, module, use_reentrant=False)",
        drops=True,  # the recomputation in the backward pass drops the same elements
    ),
    _REENTRANT,
    Mode(
        "parametrized",
        code.PARAMETRIZED,
        parameter="{path}parametrizations.{leaf}.original",
        drops=True,
    ),
    Mode(
        "pruned",
        code.PRUNED,
        parameter="{path}{leaf}_orig",
        drops=True,
    ),
    Mode(
        "weight_normed",
        code.WEIGHT_NORMED,
        parameter="{path}parametrizations.{leaf}.original1",
        needs="nn.utils.parametrizations.weight_norm",
        since="2.1",
        **_NORMED,
    ),
    _NORMED_BY_HOOKS,
    *(
        Mode(id, made, kin=kin, parameter=parameter, renames=_MATRICES, is_rare=True, **_NORMED)
        for id, made, kin, parameter in (
            ("spectral_normed", code.SPECTRAL_NORMED, None, "{path}parametrizations.{leaf}.original"),
            ("spectral_normed_by_hooks", code.SPECTRAL_NORMED_BY_HOOKS, "pruned", "{path}{leaf}_orig"),
            ("orthogonal", code.ORTHOGONAL, None, "{path}parametrizations.{leaf}.original"),
        )
    ),
    *OF_PARTS,
    QUANTIZED,
    Mode("own_classes", code.OWN_CLASSES, drops=True),  # subclasses of torch's layers, other classes for its stacks
    Mode(
        "fake",
        code.FAKE,
        "faked",
        calls=(*[MODULES] * 3, SDPA),
        is_watched=False,
        everywhere=False,
        needs="func",
        since="2.0",
        drops=True,
    ),
    Mode(
        "reused",
        code.REUSED,
        "reused",
        calls=(*[MODULES] * 4, FUNCTIONAL, SDPA),
        is_watched=False,
        calls_before=True,
        drops=True,
        times=4,
    ),
    BY_POSITION,
    Mode(
        "default_device",  # holds none of the inputs
        within='torch.device("meta")',
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # measured on CPU only
        since="2.0",
    ),
    Mode(
        "subclassed",
        code.SUBCLASSED,
        "subclassed",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # measured on CPU only
    ),
    Mode(
        "default_dtype",  # no input has it
        code.DEFAULT_DTYPE,
        "typed",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # measured on CPU only
        drops=True,
    ),
    Mode(
        "deterministic",
        code.DETERMINISTIC,
        "determined",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # measured on CPU only
        drops=True,
    ),
    Mode(
        "threads",
        code.THREADS,
        "threaded",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # the threads share the work of its kernels
    ),
    Mode(
        "stack_flag",
        "for part in module.modules():\n"
        "    if hasattr(part, 'layers') or hasattr(part, 'decoder'):\n"
        "        part.training = not part.training",
        drops=True,
    ),
    Mode(
        "layers_apart",  # every other layer of a stack is in eval and not in train mode, or in train mode and not eval
        "layers = [part for part in module.modules() if hasattr(part, 'self_attn')]\n"
        "for layer in layers[1::2]:\n"
        "    layer.train(not layer.training)",
    ),
    Mode(
        "norms_apart",
        "module = copy.deepcopy(module)\n"
        "for part in module.modules():\n"
        "    if hasattr(part, 'norm2'):\n"
        "        part.norm2.eps = 0.1",
        norm2_eps=0.1,
        is_rare=True,
        drops=True,
        only_on="cpu",  # measured on CPU only
    ),
    SHARED_MASKS,
    *SHARED_SEQUENCES,
    *DISTRIBUTED,
    _MAPPED,
    _MAPPED_SEQUENCES,
    _MAPPED_MASKS,
    vmap.of_parameters(_UNBATCHED),
    _COMPILED,
    replace(
        _COMPILED,
        id="compiled_fullgraph",
        kin="compiled",
        made=code.compiled('backend="eager", fullgraph=True'),
        serves="",  # reuse is tested by the variants without fullgraph
    ),
    replace(_COMPILED, id="compiled_eager", kin="compiled", made=code.compiled('backend="eager"'), times=2),
    replace(
        _COMPILED,
        id="compiled_dynamic",
        kin="compiled",
        made=code.compiled('backend="aot_eager", dynamic=True'),
        serves="sizes",
    ),
    replace(
        _COMPILED,
        id="compiled_inductor",
        kin="compiled",
        made=code.compiled('backend="inductor"'),
        since="2.6",  # before, it fails on a decoder layer if the target is transposed and N == T
        builds=True,
        drops=False,  # inductor has its own random numbers
    ),
    replace(
        _COMPILED,
        id="compiled_inductor_dynamic",
        kin="compiled",
        made=code.compiled('backend="inductor", dynamic=True'),
        serves="sizes",
        since="2.6",
        builds=True,
        drops=False,  # inductor has its own random numbers
        differentiates=False,
    ),
    reading.mode(_COMPILED),
    *written.modes(_TRACED),
    _EXPORTED,
    replace(
        _EXPORTED,
        id="exported_decomposed",
        kin="exported",
        made=code.EXPORT_DECOMPOSED,
        calls=(MODULES, *[SDPA] * 3),
        decomposes=True,
        only_on="cpu",  # measured on CPU only
        warns=f"{_EXPORTED.warns}|LeafSpec",  # 2.12 warns of its own internals
        since="2.6",  # before, it fails on the decomposition of attention with several samples or is_causal
    ),
    replace(
        _EXPORTED,
        id="exported_strict",
        kin="exported",
        made=code.EXPORT_STRICT,
        since="2.10",  # before, a module of torch.nn is exported as one operation
    ),
    _EXPORTED_DYNAMIC,
    *onnx.modes(_EXPORTED),
    replace(
        _TORCHSCRIPT,
        id="scripted",
        made=code.SCRIPTED,
        called="scripted",
        serves="masks",
        converts_masks=False,  # the error of a script that has failed before depends on earlier scripts
        since="2.1",  # before, errors and warnings depend on earlier scripts
    ),
    _TRACE,
    replace(_TRACE, id="traced_hiding", kin="traced", made=code.TRACED_HIDING, times=1),
    # without dropout: an eager call does not show which weights of keys it drops that the trace alone sees
    replace(_TRACE, id="traced_causal", kin="traced", made=code.TRACED_CAUSAL, times=1, drops=False),
    *NESTED,
    _BIASED,
    replace(_BIASED, id="causal_lower_right", kin="causal_upper_left", made=code.LOWER_RIGHT),
    _AUTOCAST,
    replace(
        _AUTOCAST,
        id="autocast_float16",
        kin="autocast",
        within="torch.autocast(DEVICE, dtype=torch.float16)",
        lowers="float16",
        since="2.3",
    ),
    *(
        Mode(f"vectors_{name.lower()}", vectors=name, calls=_ALL, everywhere=False, drops=True)
        for name in ("DEFAULT", "AVX2")
    ),
    Mode(
        "sdpa_math",
        calls=(*[MODULES] * 3, FUNCTIONAL, *[SDPA] * 3),
        needs=_CHOOSES,
        since="2.0",
        everywhere=False,
        drops=True,
        times=2,
        **_ON_MATH,
    ),
    FLEX_DEBUGGED,
    Mode(
        "sdpa_flash",
        within=_FLASH,
        kernel=SDPA_FLASH if Version(torch.__version__) >= Version("2.1") else None,  # before, CPUs have no such kernel
        calls=(SDPA,),
        needs=_CHOOSES,
        since="2.0",
        everywhere=False,
    ),
    *(
        Mode(
            f"sdpa_{name.lower()}",
            within=_BACKEND.format(name),
            kernel=f"sdpa_{name.lower()}",
            calls=(SDPA,),
            needs=f"nn.attention.SDPBackend.{name}_ATTENTION",
            since="2.5",
            only_on="cuda",
            everywhere=False,
        )
        for name in ("EFFICIENT", "CUDNN")
    ),
)

# Modes that are never drawn: remedies (deviations/remedies.py) change calls into them.
REMEDIED = (
    Mode("pruned_for_good", code.PRUNED_FOR_GOOD),
    HOOKED_ATTENTION,
    *(replace(mode, id=f"{mode.id}_math", kin="vmap", **_ON_MATH) for mode in (_MAPPED, _MAPPED_MASKS)),
    Mode("pruned_refreshed", code.PRUNED_REFRESHED, "refreshed", parameter="{path}{leaf}_orig"),
    replace(_NORMED_BY_HOOKS, id="weight_normed_refreshed", made=code.WEIGHT_NORMED_REFRESHED, called="refreshed"),
    replace(_EXPORTED_DYNAMIC, id="exported_in_order", made=code.EXPORT_IN_ORDER),
    *(Mode(f"silenced_{name}", code.silenced(message), "silenced") for name, message in code.MESSAGES.items()),
    replace(
        _BIASED,
        id="silenced_lower_right",
        kin="causal_upper_left",
        made=code.LOWER_RIGHT_SILENCED,
        called="silenced",
    ),
)
BY_ID = {mode.id: mode for mode in (*MODES, *REMEDIED)}
WHOLE_GRAPHS = ("exported_strict", "compiled_fullgraph")  # they raise instead of breaking the graph


def computed_in(case: "Case") -> str:
    """The dtype of matrix products in the call: that of autocast, else that of the inputs."""
    return BY_ID[case.mode].lowers or case.dtype
