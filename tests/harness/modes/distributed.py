"""Modes that share a call between two processes: the wrappers of torch.distributed, on CPUs, with gloo.

If the processes share the samples, each gets one of two, with the masks that belong to it. Wrappers average gradients
over the processes: if each differentiates twice its part of a sum, the average is the gradient that one process has of
the whole sum.
"""

from dataclasses import replace

from .mode import Mode

FSDP, FULLY_SHARD = "distributed_fsdp", "distributed_fully_shard"
TENSOR_PARALLEL = "distributed_tensor_parallel"

_DISTRIBUTED = """\
WRAPPER

if not torch.distributed.is_initialized():
    torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
batch_first = next(part.batch_first for part in module.modules() if hasattr(part, "batch_first"))

def of_both(value):
    values = [None, None]
    with torch.inference_mode(False):  # in which releases before 2.6 gather nothing
        torch.distributed.all_gather_object(values, value)
    return values

class Call:
    def __init__(self, given, options):
        self.given, self.options = given, options
        self.shares = SHARES and given[0].ndim == 3
        named = [(name, value) for name, value in (*enumerate(given), *options.items()) if torch.is_tensor(value)]
        self.tensors = {id(value): value for _, value in named}  # identity marks self-attention
        self.axes = {id(value): self.axis(name, value) for name, value in named}

    def axis(self, name, value):  # of the samples; None if each process gets the whole tensor
        is_mask = isinstance(name, str)
        if not self.shares or (is_mask and value.ndim < 3 and "padding" not in name):
            return None
        return 0 if is_mask or batch_first else 1

    def axis_of_result(self, place):
        return None if not self.shares else 1 if place == 0 and not batch_first else 0

    def part(self, value, axis):
        return value if axis is None else value.chunk(2, axis)[rank]

    def forward(self):
        parts = {key: self.part(value.detach(), self.axes[key]) for key, value in self.tensors.items()}
        self.parts = {key: part.requires_grad_(self.tensors[key].requires_grad) for key, part in parts.items()}
        options = {name: self.parts.get(id(value), value) for name, value in self.options.items()}
        results = error = None
        try:
            with torch.inference_mode(False), torch.enable_grad():  # as before training
                self.wrapped = wrapped(module)
            results = self.wrapped(*(self.parts[id(value)] for value in self.given), **options)
        except Exception as raised:
            error = raised
        for raised in filter(None, of_both(error)):
            raise raised
        self.results = results if isinstance(results, tuple) else (results,)
        return tuple(map(self.whole, range(len(self.results)), self.results))

    def whole(self, place, result):
        if result is None:
            return None
        axis, result = self.axis_of_result(place), result.detach().clone()
        return result if axis is None else torch.cat(of_both(result), axis)

    def backward(self, cotangents):
        results, weights = [], []
        for place, (result, cotangent) in enumerate(zip(self.results, cotangents)):
            if result is not None and result.requires_grad:
                results.append(result)
                weights.append((1 + self.shares) * self.part(cotangent, self.axis_of_result(place)))
        torch.autograd.backward(results, weights)
        of_parameters = gradients(self.wrapped)
        return *map(self.gradient, self.parts), *(of_parameters[name] for name, _ in module.named_parameters())

    def gradient(self, key):
        its, axis = self.parts[key].grad, self.axes[key]
        if not self.shares:
            return its
        both = of_both(its)
        if None in both:
            return None
        return (sum(both) if axis is None else torch.cat(both, axis)) / 2

class Function(torch.autograd.Function):
    @staticmethod
    def forward(context, call, *_):
        with torch.enable_grad():
            results = call.forward()
        context.call = call
        constant = [whole for whole, its in zip(results, call.results) if its is not None and not its.requires_grad]
        context.mark_non_differentiable(*constant)
        return results

    @staticmethod
    def backward(context, *cotangents):
        return None, *context.call.backward(cotangents)

def distributed(*given, **options):
    call = Call(given, options)
    if torch.is_grad_enabled():
        results = Function.apply(call, *call.tensors.values(), *module.parameters())
    else:
        results = call.forward()
    return results if len(results) > 1 else results[0]
"""

_DATA_PARALLEL = """\
wrapped = torch.nn.parallel.DistributedDataParallel

def gradients(wrapped):
    return {name.removeprefix("module."): its.grad for name, its in wrapped.named_parameters()}"""


_LAYERS = "torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer"

_FSDP = f"""\
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

def wrapped(module):
    options = {{"auto_wrap_policy": ModuleWrapPolicy({{{_LAYERS}}})}}
    options |= {{"use_orig_params": True, "device_id": torch.device("cpu")}}
    return FullyShardedDataParallel(copy.deepcopy(module), **options)

def gradients(wrapped):
    with FullyShardedDataParallel.summon_full_params(wrapped, with_grads=True):
        named = [(name.replace("_fsdp_wrapped_module.", ""), its.grad) for name, its in wrapped.named_parameters()]
        return {{name: its if its is None else its.clone() for name, its in named}}"""

_FULL = """\
def gradients(wrapped):
    named = [(name, its.grad) for name, its in wrapped.named_parameters()]
    return {name: its.full_tensor() if hasattr(its, "full_tensor") else its for name, its in named}"""

_FULLY_SHARD = f"""\
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

def wrapped(module):
    module, mesh = copy.deepcopy(module), init_device_mesh("cpu", (2,))
    for part in reversed(list(module.modules())):
        if part is module or isinstance(part, ({_LAYERS})):
            fully_shard(part, mesh=mesh)
    return module

{_FULL}"""

_TENSOR_PARALLEL = f"""\
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

def wrapped(module):
    trained = {{name for name, its in module.named_parameters() if its.requires_grad}}
    module = copy.deepcopy(module)
    styles = {{"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}}
    names = [(name, name.rpartition(".")[2]) for name, _ in module.named_modules()]
    plan = {{name: styles[leaf] for name, leaf in names if leaf in styles}}
    module = parallelize_module(module, init_device_mesh("cpu", (2,)), plan)
    for name, its in module.named_parameters():
        its.requires_grad_(name in trained)  # before 2.11 all are trained then
    return module

{_FULL}"""


def _text(wrapper, shares=True):
    return _DISTRIBUTED.replace("WRAPPER", wrapper).replace("SHARES", str(shares))


# before 2.9, when the collection of garbage meets a graph of autograd that holds itself
_DEALLOCATING = "Deallocating Tensor that still has live PyObject references"
_DISTRIBUTED_MODE = Mode(
    "distributed",
    _text(_DATA_PARALLEL),
    "distributed",
    is_shared=True,
    warns=f"{_DEALLOCATING}|Grad strides do not match bucket view strides",  # "not an error", for bias_k and bias_v
    is_rare=True,  # a call takes 30 ms
    everywhere=False,
    only_on="cpu",  # GPUs need one for each process, and another backend
    since="2.0",
)
_SHARDED = replace(_DISTRIBUTED_MODE, kin="distributed", is_sharded=True, is_rare=False)
DISTRIBUTED = (
    _DISTRIBUTED_MODE,
    replace(
        _SHARDED,
        id=FSDP,
        made=_text(_FSDP),
        warns=f"{_DEALLOCATING}|both parameters with requires_grad=True and False",
        since="2.2",  # before, it needs a GPU
    ),
    replace(
        _SHARDED,
        id=FULLY_SHARD,
        made=_text(_FULLY_SHARD),
        warns=f"{_DEALLOCATING}|returned a view tensor",
        since="2.7",  # before, it needs a GPU
    ),
    replace(
        _SHARDED,
        id=TENSOR_PARALLEL,
        made=_text(_TENSOR_PARALLEL, shares=False),
        warns=f"{_DEALLOCATING}|DTensor random operators may not|To construct DTensor from|AsyncCollectiveTensor",
        since="2.2",  # before, there is no init_device_mesh
    ),
)
