"""The longer statements of modes (modes.py): Python text that is executed, and shown in reports.

The statements find `module`, which may be a function, and define a callable that replaces it. In modes with
forward-mode derivatives, arguments and results have an attribute `tangent`.
"""

_EACH = """\
module = copy.deepcopy(module)
for name, parameter in list(module.named_parameters()):
    path, _, leaf = name.rpartition(".")
    {}
"""

PARAMETRIZED = """\
class Negated(torch.nn.Module):
    def forward(self, values):  # exactly -values, but with a gradient of 1
        return values - values.detach() - values.detach()

    def right_inverse(self, values):
        return -values

""" + _EACH.format("parametrize.register_parametrization(module.get_submodule(path), leaf, Negated())")

PRUNED = _EACH.format(
    """\
learned = parameter.detach().clone()
    parameter.data.mul_(2)
    prune.identity(module.get_submodule(path), leaf)
    parameter.data.copy_(learned)  # after pruning has read the doubled values"""
)

PRUNED_FOR_GOOD = f"{PRUNED}\n    prune.remove(module.get_submodule(path), leaf)"

_REFRESHED = """

def refreshed(*given, **options):
    for part in module.modules():
        if isinstance(part, torch.nn.MultiheadAttention):
            part.out_proj(part.out_proj.{}.new_zeros(part.embed_dim))
    return module(*given, **options)
"""
PRUNED_REFRESHED = PRUNED + _REFRESHED.format("weight_orig")

# With dim=None the norm is divided by itself, which is exact.
WEIGHT_NORMED = _EACH.format(
    """\
part = module.get_submodule(path)
    torch.nn.utils.parametrizations.weight_norm(part, leaf, dim=None)
    part.parametrizations[leaf].original0.data.neg_()
    part.parametrizations[leaf].original1.data.neg_()"""
)

WEIGHT_NORMED_BY_HOOKS = _EACH.format(
    """\
part = module.get_submodule(path)
    parameter.data.mul_(2)
    torch.nn.utils.weight_norm(part, leaf, dim=None)
    if not parameter.requires_grad:
        setattr(part, leaf, getattr(part, leaf).detach())
    getattr(part, f"{leaf}_g").data.div_(2)  # after the doubled values have been computed
    for learned in (getattr(part, f"{leaf}_g"), getattr(part, f"{leaf}_v")):
        learned.requires_grad_(parameter.requires_grad)"""
)

WEIGHT_NORMED_REFRESHED = WEIGHT_NORMED_BY_HOOKS + _REFRESHED.format("weight_v")

# The vectors give a norm of exactly 2, and no power iteration changes them in training.
_NORM_OF_TWO = """\
for scale in range(1, 99, 2):
        number = own.data[0, 0] * scale
        if 2 / number * number == 2:
            break
    for vector, first in zip(vectors, (2 / number, scale)):
        vector.zero_()[0] = first
    norm.n_power_iterations = 0"""

SPECTRAL_NORMED = _EACH.format(
    f"""\
if parameter.ndim != 2:
        continue
    part = module.get_submodule(path)
    torch.nn.utils.parametrizations.spectral_norm(part, leaf)
    own, norm = part.parametrizations[leaf].original, part.parametrizations[leaf][0]
    own.data.mul_(2)
    vectors = norm._u, norm._v
    {_NORM_OF_TWO}"""
)

SPECTRAL_NORMED_BY_HOOKS = _EACH.format(
    f"""\
if parameter.ndim != 2:
        continue
    part = module.get_submodule(path)
    parameter.data.mul_(2)
    torch.nn.utils.spectral_norm(part, leaf)
    own, norm = getattr(part, f"{{leaf}}_orig"), list(part._forward_pre_hooks.values())[-1]
    setattr(part, leaf, own * 1)  # as if an earlier call had computed it
    vectors = getattr(part, f"{{leaf}}_u"), getattr(part, f"{{leaf}}_v")
    {_NORM_OF_TWO}"""
)

# The learned rotation is that by nothing, and turns a matrix that need not be orthogonal.
ORTHOGONAL = _EACH.format(
    """\
if parameter.ndim != 2:
        continue
    part, tall = module.get_submodule(path), parameter.detach().clone()
    torch.nn.utils.parametrizations.orthogonal(part, leaf, "matrix_exp")
    tall = tall if len(tall) >= tall.shape[1] else tall.t()
    part.parametrizations[leaf][0].base[:, : tall.shape[1]] = tall"""
)

OWN_CLASSES = """\
module = copy.deepcopy(module)
for part in module.modules():
    is_stack = isinstance(part, (torch.nn.TransformerEncoder, torch.nn.TransformerDecoder))
    base = torch.nn.Module if is_stack else type(part)
    part.__class__ = type("Own", (base,), {"forward": type(part).forward})
"""

THREADS = """\
def threaded(*given, **options):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        return module(*given, **options)
    finally:
        torch.set_num_threads(threads)
"""

DEFAULT_DTYPE = """\
def typed(*given, **options):
    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        return module(*given, **options)
    finally:
        torch.set_default_dtype(former)
"""

DETERMINISTIC = """\
def determined(*given, **options):
    torch.use_deterministic_algorithms(True)  # since 2.2, fills uninitialised memory with NaN
    try:
        return module(*given, **options)
    finally:
        torch.use_deterministic_algorithms(False)
"""

_COMPILED = """\
torch._dynamo.reset()
function = torch.compile(module, OPTIONS)

def compiled(*given, **options):
    tensors = {id(value): value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)}

    def elsewhere(tensor, is_causal):
        memory = tensor.detach().as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
        place = (tensor.storage_offset(), tensor.shape, tensor.stride())
        other = tensor.new_empty(0).set_(memory.flip(0).untyped_storage(), *place)
        if is_causal and tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1] and 0 not in tensor.stride():
            other.copy_(torch.full_like(other, float("-inf")).triu(1))
        return other.requires_grad_(tensor.requires_grad)

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for is_causal in (True, False):  # the graph must not depend on the first contents
            with torch.inference_mode(False):
                its = {key: elsewhere(tensor, is_causal) for key, tensor in tensors.items()}
            others = {name: its.get(id(value), value) for name, value in options.items()}
            try:
                function(*(its[id(tensor)] for tensor in given), **others)
            except Exception:  # from contents that contradict a hint, say; only the next call is judged
                pass
    return function(*given, **options)
"""


def compiled(options: str) -> str:
    """Statements that compile the module with these arguments, and call it with other contents first."""
    return _COMPILED.replace("OPTIONS", options)


EXPORT = """\
class Call(torch.nn.Module):
    def forward(self, *given, **options):
        return module(*given, **options)

programs = []

def exported(*given, **options):
    if not programs:
        what = module if isinstance(module, torch.nn.Module) else Call()
        programs.append(torch.export.export(what, given, options, strict=False).module())
    return programs[0](*given, **options)
"""

EXPORT_DECOMPOSED = EXPORT.replace(".module())", ".run_decompositions().module())")

EXPORT_STRICT = "torch._dynamo.reset()\n" + EXPORT.replace("strict=False", "strict=True")

EXPORT_DYNAMIC = """\
def dynamic(*given, **options):
    arguments = inspect.signature(module.forward).bind(*given, **options).arguments
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    sizes = {name: {axis: torch.export.Dim.AUTO for axis in range(tensor.ndim)} for name, tensor in tensors.items()}
    shapes = {name: sizes.get(name) for name in arguments}
    return torch.export.export(module, given, options, dynamic_shapes=shapes, strict=False).module()

programs = []

def exported(*given, **options):
    if not programs:
        programs.append(dynamic(*given, **options))
    return programs[0](*given, **options)
"""

EXPORT_IN_ORDER = EXPORT_DYNAMIC.replace(
    "    if not programs:\n",
    "    names = inspect.signature(module.forward).parameters\n"
    "    options = {name: options[name] for name in names if name in options}\n"
    "    if not programs:\n",
)

# The beginnings of warnings that a caller may want to silence, by topic.
MESSAGES = {
    "conversion": "Converting mask without torch.bool dtype to bool",
    "prototype": "The PyTorch API of nested tensors is in prototype stage",
}


def silenced(message: str, called: str = "module") -> str:
    """Statements for a call that ignores warnings whose text begins with `message`."""
    return f"""\
def silenced(*given, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="{message}")
        return {called}(*given, **options)
"""


_OPTIMIZED = """\
def optimized(function, *given, **options):
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            function(*given, **options)  # TorchScript profiles this call and optimises the next
        except Exception:  # only the next call is judged
            pass
    return function(*given, **options)

"""

SCRIPTED = (
    _OPTIMIZED
    + """\
scripts = []

def scripted(*given, **options):
    if not scripts:
        scripts.append(torch.jit.script(module))
    return optimized(scripts[0], *given, **options)
"""
)

_TRACED = (
    _OPTIMIZED
    + """\
def traced(*given, **options):
    sequences = list({id(tensor): tensor for tensor in given}.values())  # identity marks self-attention
    masks = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}

    class Call(torch.nn.Module):
        def forward(self, *tensors):
            its = dict(zip(map(id, sequences), tensors))
            moved = {**options, **dict(zip(masks, tensors[len(sequences) :]))}
            results = module(*(its[id(tensor)] for tensor in given), **moved)
            return tuple(result for result in results if result is not None) if type(results) is tuple else results

    call = Call()
    call.module = module
    is_kept = module is getattr(torch.nn.functional, "scaled_dot_product_attention", None)  # True keeps a position

    def other(name, mask):  # the trace must not depend on the contents of its masks
        result = torch.full_like(mask, is_kept)
        hidden = not is_kept if mask.dtype is torch.bool else float("-inf")
        OTHERWISE
        return result.requires_grad_(mask.requires_grad)

    others = [other(name, mask) for name, mask in masks.items()]
    with torch.random.fork_rng(devices=[]):
        call = torch.jit.trace(call.train(module.training), (*sequences, *others), check_trace=False)
    return optimized(call, *sequences, *masks.values())
"""
)
TRACED = _TRACED.replace(
    '        hidden = not is_kept if mask.dtype is torch.bool else float("-inf")\n        OTHERWISE\n', ""
)
TRACED_HIDING = _TRACED.replace(
    "OTHERWISE",
    "if mask.ndim > 1:  # hides the first key from all but the last query, or sample\n"
    "            result[:-1, ..., :1] = hidden",
)
TRACED_CAUSAL = _TRACED.replace(
    "OTHERWISE",
    'if "padding" not in name and mask.ndim == 2 and mask.shape[0] == mask.shape[1]:\n'
    "            result.masked_fill_(torch.ones_like(mask, dtype=torch.bool).triu(1), hidden)",
)

REUSED = """\
def reused(*given, **options):
    parameters = getattr(module, "parameters", tuple)()
    tensors = [tensor for tensor in (*given, *options.values(), *parameters) if isinstance(tensor, torch.Tensor)]
    writable = {id(tensor): tensor for tensor in tensors if 0 not in tensor.stride()}
    contents = {key: tensor.detach().clone() for key, tensor in writable.items()}

    def write(change):
        for key, tensor in writable.items():
            tensor.data.copy_(change(contents[key]))  # bypasses the version counter of the tensor

    def causal(content):
        is_square = content.ndim == 2 and content.shape[0] == content.shape[1]
        return content.new_full(content.shape, float("-inf")).triu(1) if is_square else content

    longer = {id(tensor): tensor.detach() for tensor in given}  # identity marks self-attention
    for axis in range(given[0].ndim - 1):
        longer = {key: torch.cat([tensor, tensor], axis) for key, tensor in longer.items()}

    def call_before(trains, options, others={}):
        module.train(trains) if hasattr(module, "train") else None
        try:
            module(*(others.get(id(tensor), tensor) for tensor in given), **options)
        except Exception:  # from a call without its masks, say; only the last call is judged
            pass

    training = getattr(module, "training", None)
    plain = {name: value for name, value in options.items() if not isinstance(value, torch.Tensor)}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)  # other elements are dropped than in the last call
        write(causal)
        with torch.set_grad_enabled(not torch.is_grad_enabled()):
            call_before(not training, options)
        write(lambda content: content.flip(-1) if content.ndim else content)
        call_before(training, options)
        write(lambda content: content)
        call_before(training, plain)
        call_before(training, plain, longer)
    return module(*given, **options)
"""

FAKE = """\
def faked(*given, **options):
    def described(results):
        results = results if type(results) is tuple else (results,)
        return [(result.shape, result.dtype, result.device) for result in results if result is not None]

    is_module = isinstance(module, torch.nn.Module)
    parameters = dict(module.named_parameters()) if is_module else {}
    with FakeTensorMode() as fakes:
        tensors = [value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)]
        its = {id(tensor): fakes.from_tensor(tensor) for tensor in (*tensors, *parameters.values())}
        values = {name: its[id(tensor)] for name, tensor in parameters.items()}
        others = {name: its.get(id(value), value) for name, value in options.items()}
        sequences = tuple(its[id(tensor)] for tensor in given)
        if is_module:
            fake = torch.func.functional_call(module, values, sequences, others)
        else:
            fake = module(*sequences, **others)
    results = module(*given, **options)
    assert described(fake) == described(results), f"{described(fake)} is not {described(results)}"
    return results
"""

_BIASED = """\
from torch.nn.attention import bias

def biased(*given, **options):
    L, S = given[0].shape[-2], given[-1].shape[-2]
    attn_mask, is_causal = options.get("attn_mask"), options.get("is_causal", False)
    if CONDITION:
        options = {**options, "attn_mask": bias.BIAS(L, S)}
        options.pop("is_causal", None)
    return module(*given, **options)
"""
UPPER_LEFT = _BIASED.replace("BIAS", "causal_upper_left").replace("CONDITION", "is_causal")
LOWER_RIGHT = _BIASED.replace("BIAS", "causal_lower_right").replace(
    "CONDITION",
    "(is_causal if L == S else attn_mask is not None and attn_mask.shape == (L, S)\n"
    "            and (attn_mask == torch.ones_like(attn_mask).tril(S - L)).all())",
)

# Inputs and masks of a class of their own, as some libraries have, which every function of torch hands on.
SUBCLASSED = """\
class Labelled(torch.Tensor):
    pass

def subclassed(*given, **options):
    tensors = [value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)]
    labelled = {id(tensor): tensor.as_subclass(Labelled) for tensor in tensors}  # identity marks self-attention
    others = {name: labelled.get(id(value), value) for name, value in options.items()}
    results = module(*(labelled[id(tensor)] for tensor in given), **others)
    results = results if type(results) is tuple else (results,)
    plain = tuple(result.as_subclass(torch.Tensor) for result in results if result is not None)
    return plain if len(plain) > 1 else plain[0]
"""

_DIFFERENTIATED = """\
def differentiated(*given, **options):
    sequences = {id(tensor): tensor for tensor in given}  # identity marks self-attention
    tensors = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}
    parameters = dict(getattr(module, "named_parameters", dict)())
    everything = {**sequences, **tensors, **parameters}
    moving = {name: tensor for name, tensor in everything.items() if tensor.requires_grad}

    def call(moved):
        its = {**everything, **moved}
        sequences = tuple(its[id(tensor)] for tensor in given)
        others = {**options, **{name: its[name] for name in tensors}}
        if parameters:
            results = torch.func.functional_call(module, {name: its[name] for name in parameters}, sequences, others)
        else:
            results = module(*sequences, **others)
        results = results if type(results) is tuple else (results,)
        return tuple(result for result in results if result is not None)

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(context, *values):
            moved = dict(zip(moving, values))
            FORWARD
            return results

        @staticmethod
        def backward(context, *cotangents):
            BACKWARD

    if not moving or not torch.is_grad_enabled():
        return module(*given, **options)
    results = Differentiated.apply(*moving.values())
    return results if len(results) > 1 else results[0]
"""


def _differentiated(forward, backward):
    """Statements for a module whose backward pass is computed by a transformation of torch.func."""
    return _DIFFERENTIATED.replace("FORWARD", forward).replace("BACKWARD", backward)


JVP = """\
def differentiated(*given, **options):
    parameters = dict(getattr(module, "named_parameters", dict)())
    everything = {id(value): value for value in (*given, *options.values(), *parameters.values())}
    moving = {key: value.detach() for key, value in everything.items() if hasattr(value, "tangent")}

    def call(moved):
        def its(value):  # identity marks self-attention
            return moved.get(id(value), value)

        tensors = tuple(its(tensor) for tensor in given)
        others = {name: its(value) for name, value in options.items()}
        if parameters:
            values = {name: its(parameter) for name, parameter in parameters.items()}
            results = torch.func.functional_call(module, values, tensors, others)
        else:
            results = module(*tensors, **others)
        results = results if type(results) is tuple else (results,)
        return tuple(result for result in results if result is not None)

    if not moving:
        return module(*given, **options)
    tangents = {key: everything[key].tangent for key in moving}
    results, tangents = torch.func.jvp(call, (moving,), (tangents,))
    for result, tangent in zip(results, tangents):
        result.tangent = tangent
    return results if len(results) > 1 else results[0]
"""

VJP = _differentiated(
    "results, context.pull = torch.func.vjp(call, moved)",
    "return tuple(context.pull(cotangents)[0][name] for name in moving)",
)
JACREV = _differentiated(
    "context.jacobians, results = torch.func.jacrev(lambda its: (call(its),) * 2, has_aux=True)(moved)",
    "pairs = list(zip(cotangents, context.jacobians))\n"
    "\n"
    "            def pulled(name):\n"
    "                return sum(torch.tensordot(by, of[name].to(by), by.ndim) for by, of in pairs)\n"
    "\n"
    "            return tuple(map(pulled, moving))",
)
# As gradients of each sample are taken. The other sample of the pair has half the contents, and hides the same.
PER_SAMPLE = _differentiated(
    "context.moved, results = moved, torch.func.vjp(call, moved)[0]",
    "of_samples = {name: value for name, value in context.moved.items() if name not in tensors}  # not masks\n"
    "            pairs = {name: torch.stack([value / 2, value]) for name, value in of_samples.items()}\n"
    "            batches = tuple(torch.stack([by / 2, by]) for by in cotangents)\n"
    "            pull = lambda its, by: torch.func.vjp(call, {**context.moved, **its})[1](by)[0]\n"
    "            found = torch.func.vmap(pull)(pairs, batches)\n"
    "            return tuple(found[name][1] for name in moving)",
)
_RECORDED = (  # statements of `forward`: the results, and the graph that autograd records
    "context.leaves = [torch.nn.Parameter(value.detach()) for value in values]\n"
    "            with torch.enable_grad():\n"
    "                context.results = call(dict(zip(moving, context.leaves)))\n"
    "            results = tuple(result.detach() for result in context.results)"
)
# After a further call: a loss over each result alone, and half the loss a second time over the same graph.
ACCUMULATED_GRADIENTS = _differentiated(
    _RECORDED,
    "with torch.enable_grad():\n"
    "                call(dict(zip(moving, context.leaves)))\n"
    "            for by, result in [*zip(cotangents, context.results)] * 2:\n"
    "                if result.requires_grad:\n"
    "                    result.backward(by / 2, retain_graph=True, inputs=context.leaves)\n"
    "            return tuple(leaf.grad for leaf in context.leaves)",
)
# A reentrant checkpoint finds gradients of its arguments. It recomputes with copies, which have no common identity.
CHECKPOINT_REENTRANT = "from concurrent.futures import ThreadPoolExecutor\n\n" + _differentiated(
    _RECORDED.replace(
        "context.results = call(dict(zip(moving, context.leaves)))",
        "leaves = dict(zip(moving, context.leaves))\n"
        "                its = {name: leaves.get(name, value) for name, value in {**sequences, **tensors}.items()}\n"
        "                inner = lambda *values: call({**leaves, **dict(zip(its, values))})\n"
        "                context.results = torch.utils.checkpoint.checkpoint(inner, *its.values(), use_reentrant=True)",
    ),
    "known = [pair for pair in zip(context.results, cotangents) if pair[0].requires_grad]\n"
    "            if known:  # in a thread of its own, since the checkpoint refuses a loss inside torch.autograd.grad\n"
    "                with ThreadPoolExecutor(1) as pool:\n"
    "                    pool.submit(torch.autograd.backward, *zip(*known)).result()\n"
    "            return tuple(leaf.grad for leaf in context.leaves)",
)
BATCHED_GRADIENTS = _differentiated(
    _RECORDED,
    "known = [result for result in context.results if result.requires_grad]\n"
    "            cotangents = [by for by, result in zip(cotangents, context.results) if result.requires_grad]\n"
    "            batches = [torch.stack([torch.zeros_like(by), by]) for by in cotangents]\n"
    "            if not known:\n"
    "                return (None,) * len(moving)\n"
    '            how = {"is_grads_batched": True, "allow_unused": True}\n'
    "            pairs = torch.autograd.grad(known, context.leaves, batches, **how)\n"
    "            return tuple(None if pair is None else pair[1] for pair in pairs)",
)

LOWER_RIGHT_SILENCED = f"""\
{LOWER_RIGHT}
{silenced("Lower right causal bias", "biased")}"""
