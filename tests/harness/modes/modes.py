"""Ways to come to a module, or a function, and to call it, that change nothing of what it computes: parts of a case.

A mode is Python text, and that text is what runs: what a report shows is what was done.
"""

import copy
import functools
import inspect
import io
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter

import torch
import torch.utils.checkpoint
from packaging.version import Version
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrize, prune

from ..releases import MEASURED
from . import code, inductor
from .vectors import VARIABLE, is_lesser


def is_closed_by_export(case, version):
    """True if the case is exported, and a module of this version of torch sees it, and leaves its native path.

    Before 2.4 it does not, but frozen parameters look as if they were not.
    """
    if BY_ID[case.mode].family != "exported" or case.mode == "exported_strict":
        return False
    return version.release >= (2, 4) or case.autograd == "frozen"


NOT_ASKED = set()  # ids of modes that an experiment with torch's own source rules out


MODULES, FUNCTIONAL, SDPA = "modules", "multi_head_attention_forward", "scaled_dot_product_attention"


_ALL = (*[MODULES] * 6, FUNCTIONAL, *[SDPA] * 3)


@dataclass(frozen=True, repr=False)
class Mode:
    """made: statements after which `module` is another one.

    called: an expression for what is called in its place. within: an expression for the context of the call, with
    DEVICE for the type of the device. kin: the mode of which it is a variant. parameter: where a parameter is then,
    from its former name `path.leaf`. calls: what it is asked of, repeated for more. warns: a regular expression of what
    the call may warn of. differentiates: whether it is asked for gradients. is_forward: whether derivatives are taken
    forwards: results have a `tangent` if arguments have. lowers: the dtype in which products are computed, if not in
    that of the inputs. vectors: the vector extension of the CPU whose kernels compute, if not its best. compiles:
    whether the call is compiled first, which is slow, and not done for what is empty. builds: whether that takes a C++
    compiler, and so long that few calls are made. only_on: the type of device that alone has it. is_for_small: whether
    it is asked of small calls only, and not of empty ones. is_watched: whether it can be seen which path serves the
    call. copies: what is copied for it, so that it is contiguous: "sequences" (query, key and value) or "all", the
    masks too. everywhere: whether it can be asked of a device of which nothing is known. decomposes: whether kernels
    are taken apart. serves: which other calls are served by what is made for one: those with "masks" of other contents,
    or also of other "sizes". drops: whether dropout is asked of it, where it can be seen, or is as that of the eager
    call. converts_masks: whether it is asked of masks of another dtype than the inputs. times: how many calls an
    example makes. needs, since: what torch must have, such as "func", and the first release that can be asked.
    """

    id: str
    made: str = ""
    called: str = "module"
    within: str = ""
    kin: str | None = None
    parameter: str = "{path}{leaf}"
    calls: tuple[str, ...] = (MODULES,)
    warns: str | None = None
    differentiates: bool = True
    is_forward: bool = False
    lowers: str | None = None
    vectors: str | None = None
    compiles: bool = False
    builds: bool = False
    only_on: str | None = None
    is_for_small: bool = False
    is_watched: bool = True
    copies: str = ""
    everywhere: bool = True
    decomposes: bool = False
    serves: str = ""
    drops: bool = False
    converts_masks: bool = True
    times: int = 1
    needs: str | None = None
    since: str = "1.13"

    def __repr__(self):
        return self.id

    @property
    def family(self):
        """The mode of which it is a variant; itself, if of none."""
        return self.kin or self.id

    def is_in(self, device_type="cpu"):
        """True if the installed torch has what it needs, and it has been measured on this kind of device."""
        if self.id in NOT_ASKED:
            return False
        if Version(torch.__version__) < Version(self.since) or not (self.everywhere or device_type in MEASURED):
            return False
        if self.only_on not in (None, device_type) or (self.builds and not inductor.can_build()):
            return False
        if self.vectors and not (device_type == "cpu" and is_lesser(self.vectors)):
            return False
        try:
            return self.needs is None or bool(attrgetter(self.needs)(torch))
        except AttributeError:
            return False

    @property
    def is_torchscript(self):
        return self.family in ("scripted", "traced")

    @property
    def copies_module(self):
        """True if what is called is a copy of the module."""
        return "copy.deepcopy(module)" in self.made or "torch.save(module" in self.made

    @property
    def begins(self):
        """The statement that comes before torch is imported, if any."""
        return f'os.environ["{VARIABLE}"] = "{self.vectors.lower()}"' if self.vectors else ""

    def where(self, name):
        """The new name of a parameter."""
        path, dot, leaf = name.rpartition(".")
        return self.parameter.format(path=path + dot, leaf=leaf)

    def around(self, device="cpu"):
        """An expression for the context of a call on the device; empty if it has none."""
        return self.within.replace("DEVICE", f'"{device.partition(":")[0]}"')

    def context(self, device="cpu"):
        """The context of the call."""
        return eval(self.around(device), dict(_NAMES)) if self.within else nullcontext()

    def prepare(self, module, parameters):
        """(what is called, {former name: parameter}) for a module, or a function, with these parameters."""
        if self is not EAGER:
            _settle()
        names = {**_NAMES, "module": module}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(self.made, names)
            called = eval(self.called, names)
        return called, {name: names["module"].get_parameter(self.where(name)) for name in parameters}


@cache
def _settle():
    """Let TorchDynamo look up torch's functions, which it does once and by name, before others take their places."""
    inductor.settle()  # first, for TorchDynamo chooses a place as soon as it is imported
    if hasattr(torch, "compiler"):
        torch.compiler.allow_in_graph(_nothing)


def _nothing():
    """What it never meets."""


_NAMES = {"torch": torch, "copy": copy, "functools": functools, "inspect": inspect, "io": io, "warnings": warnings}


_NAMES |= {"parametrize": parametrize, "prune": prune, "FakeTensorMode": FakeTensorMode}


_BACKEND = "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.{}_ATTENTION)"


MATH, _FLASH, _CHOOSES = _BACKEND.replace("{}_ATTENTION", "MATH"), _BACKEND.format("FLASH"), "nn.attention"


if not hasattr(torch.nn, "attention"):  # before 2.3, by its predecessor
    MATH, _FLASH, _CHOOSES = (
        "torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)",
        "torch.backends.cuda.sdp_kernel(enable_math=False, enable_mem_efficient=False)",
        "backends.cuda.sdp_kernel",
    )


_UNBATCHED = "performance drop because we have not yet implemented the batching rule"


_TRACED = {
    # some of the way back, or of caches that the environment forbids
    "warns": "[Dd]ynamo|Graph break|nested tensors is in prototype|Error detected in .*NotImplemented",
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
    since="2.1",  # before, not with Python 3.11
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
    since="2.3",  # before, it takes no keyword arguments
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
    since="2.5",  # before, the sizes that may vary cannot be left to it
)


_TORCHSCRIPT = Mode(
    "",
    needs="jit",
    times=2,
    drops=hasattr(torch, "func"),  # before 2.0 its own derivative of dropout has random numbers of its own
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
    only_on="cpu",  # where alone it has been measured
)


_JVP = Mode(
    "func_jvp",
    code.JVP,
    "differentiated",
    calls=_ALL,
    is_forward=True,
    # before, a float64 mask is refused beside a query or a key that has a tangent, and converted beside others
    converts_masks=Version(torch.__version__) >= Version("2.1"),
    needs="func",
    everywhere=False,
    since="2.0",
    warns="torch.jit.script",  # which torch.func.jvp makes its formulas by
)


_MAPPED = Mode(
    "vmap",
    code.VMAP,
    "twice",
    calls=_ALL,
    needs="func",
    everywhere=False,
    since="2.0",
    differentiates=False,
    is_watched=False,
    copies="all",
    warns=_UNBATCHED,
)


_NESTED = Mode(
    "nested_strided",
    code.STRIDED,
    "packed",
    calls=(MODULES, SDPA),
    needs="nested",
    warns="nested tensors is in prototype|All tensors need to be on cuda device",  # that is why no backend serves
    everywhere=False,
)


_BIASED = Mode(
    "causal_upper_left",
    code.UPPER_LEFT,
    "biased",
    calls=(SDPA,),
    since="2.3",
    is_watched=False,  # the bias knows scaled_dot_product_attention only where nothing stands in its place
    everywhere=False,
)


_AUTOCAST = Mode(
    "autocast",
    within="torch.autocast(DEVICE, dtype=torch.bfloat16)",
    # before 2.2 it does not know the function
    calls=_ALL if Version(torch.__version__) >= Version("2.2") else (*[MODULES] * 6, FUNCTIONAL),
    lowers="bfloat16",
    drops=True,
    times=2,
    since="2.0",
    everywhere=False,
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
    _JVP,
    # the other backend has no forward mode; before 2.1 there is none
    replace(_JVP, id="func_jvp_math", kin="func_jvp", within=MATH, needs=_CHOOSES, since="2.1"),
    Mode(
        "checkpoint",
        called="functools.partial(torch.utils.checkpoint.checkpoint, module, use_reentrant=False)",
        drops=True,  # the second time, on the way back, the same as the first
    ),
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
    Mode("own_classes", code.OWN_CLASSES, drops=True),  # subclasses of torch's; stacks that are none of its
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
        drops=True,
        times=4,
    ),
    Mode(
        "default_device",  # where nothing that is given lies
        within='torch.device("meta")',
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # where alone it has been measured
        since="2.0",
    ),
    Mode(
        "default_dtype",  # which nothing that is given has
        code.DEFAULT_DTYPE,
        "typed",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # where alone it has been measured
        drops=True,
    ),
    Mode(
        "deterministic",
        code.DETERMINISTIC,
        "determined",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # where alone it has been measured
        drops=True,
    ),
    Mode(
        "threads",
        code.THREADS,
        "threaded",
        calls=_ALL,
        everywhere=False,
        only_on="cpu",  # whose kernels they share
    ),
    Mode(
        "stack_flag",
        "for part in module.modules():\n"
        "    if hasattr(part, 'layers') or hasattr(part, 'decoder'):\n"
        "        part.training = not part.training",
        drops=True,
    ),
    _MAPPED,
    replace(
        _MAPPED,
        id="vmap_of_sequences",
        kin="vmap",
        copies="sequences",
        made=code.VMAP_OF_SEQUENCES,
    ),
    replace(
        _MAPPED,
        id="vmap_of_masks",
        kin="vmap",
        made=code.VMAP_OF_MASKS,
        only_on="cpu",  # where alone it has been measured
        since="2.3",  # before, it cannot call the fused kernel
    ),
    _COMPILED,
    replace(
        _COMPILED,
        id="compiled_fullgraph",
        kin="compiled",
        made=code.compiled('backend="eager", fullgraph=True'),
        serves="",  # as the others are: it computes what they do, or raises
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
        since="2.6",  # before, it cannot build a decoder layer for a transposed target of as many samples as positions
        builds=True,
        drops=False,  # what it builds has random numbers of its own
        differentiates=False,  # a call takes four seconds, with its way back fifteen
    ),
    replace(
        _COMPILED,
        id="compiled_inductor_dynamic",
        kin="compiled",
        made=code.compiled('backend="inductor", dynamic=True'),
        serves="sizes",
        since="2.6",
        builds=True,
        drops=False,  # what it builds has random numbers of its own
        differentiates=False,
    ),
    _EXPORTED,
    replace(
        _EXPORTED,
        id="exported_decomposed",
        kin="exported",
        made=code.EXPORT_DECOMPOSED,
        calls=(MODULES, *[SDPA] * 3),
        decomposes=True,
        only_on="cpu",  # where alone it has been measured
        warns=f"{_EXPORTED.warns}|LeafSpec",  # of its own internals, in 2.12
        since="2.6",  # before, it fails at what attention of several samples, or a causal one, comes apart into
    ),
    replace(
        _EXPORTED,
        id="exported_strict",
        kin="exported",
        made=code.EXPORT_STRICT,
        since="2.10",  # before, it takes a whole module of torch.nn for one operation
    ),
    _EXPORTED_DYNAMIC,
    replace(
        _TORCHSCRIPT,
        id="scripted",
        made=code.SCRIPTED,
        called="scripted",
        serves="masks",
        converts_masks=False,  # how a script fails that failed before depends on the scripts before it
        since="2.1",  # before, what it raises and warns of depends on what has been scripted before
    ),
    _TRACE,
    replace(_TRACE, id="traced_hiding", kin="traced", made=code.TRACED_HIDING, times=1),
    replace(_TRACE, id="traced_causal", kin="traced", made=code.TRACED_CAUSAL, times=1),
    _NESTED,
    replace(
        _NESTED,
        id="nested_jagged",
        kin="nested_strided",
        made=code.JAGGED,
        since="2.3",  # before, no kernel on CPU takes it
    ),
    replace(
        _NESTED,
        id="nested_beside_padding",
        kin="nested_strided",
        made=code.BESIDE_PADDING,
        calls=(MODULES,),
        only_on="cpu",  # where alone it has been measured
    ),
    Mode(
        "jagged_batch",
        code.JAGGED_BATCH,
        "packed",
        calls=(SDPA,),
        needs="nested",
        since="2.5",  # before, there is no way back from it
        everywhere=False,
        only_on="cpu",
    ),
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
        within=MATH,
        calls=(*[MODULES] * 3, FUNCTIONAL, *[SDPA] * 3),
        needs=_CHOOSES,
        since="2.0",
        everywhere=False,
        drops=True,
        times=2,
    ),
    Mode("sdpa_flash", within=_FLASH, calls=(SDPA,), needs=_CHOOSES, since="2.0", everywhere=False),
    *(
        Mode(
            f"sdpa_{name.lower()}",
            within=_BACKEND.format(name),
            calls=(SDPA,),
            needs=f"nn.attention.SDPBackend.{name}_ATTENTION",
            since="2.5",
            only_on="cuda",
            everywhere=False,
        )
        for name in ("EFFICIENT", "CUDNN")
    ),
)


# Calls that are never generated: the remedies (remedies.py) change a call into them.
REMEDIED = (
    Mode("pruned_for_good", code.PRUNED_FOR_GOOD),
    Mode("pruned_refreshed", code.PRUNED_REFRESHED, "refreshed", parameter="{path}{leaf}_orig"),
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


WHOLE_GRAPHS = ("exported_strict", "compiled_fullgraph")  # which raise where TorchDynamo would break the graph


def computed_in(case):
    """The dtype in which the case's products are computed."""
    return BY_ID[case.mode].lowers or case.dtype
