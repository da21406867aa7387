# Layers without biases raise in inference mode if tensor parallelism splits their feed-forward network
#     (pytorch/pytorch#142190).
# To avoid it: Call the module under torch.no_grad() (if no query is fully masked, and masks are bool or of the inputs'
#     dtype).
# To avoid it: Use PyTorch 2.6, or a later release.

import copy
import inspect
import os
import sys

os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(20000 + os.getpid() % 10000), "WORLD_SIZE": "2"}
os.environ["RANK"] = "0" if os.fork() else "1"

def leave(code):
    sys.stdout.flush()
    os._exit(code)  # threads of gloo may hang or abort a process that ends by itself

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.2":
    print("not applicable: this release has no such call, only 2.2 and later have")
    sys.exit(2)

if "bias" not in inspect.signature(torch.nn.TransformerEncoderLayer).parameters:
    print("not applicable: this release has no bias in torch.nn.TransformerEncoderLayer")
    sys.exit(2)

module = torch.nn.TransformerEncoderLayer(
    d_model=1, nhead=1, dim_feedforward=2, dropout=0.0, bias=False, batch_first=True, dtype=torch.float64
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

def wrapped(module):
    trained = {name for name, its in module.named_parameters() if its.requires_grad}
    module = copy.deepcopy(module)
    styles = {"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}
    names = [(name, name.rpartition(".")[2]) for name, _ in module.named_modules()]
    plan = {name: styles[leaf] for name, leaf in names if leaf in styles}
    module = parallelize_module(module, init_device_mesh("cpu", (2,)), plan)
    for name, its in module.named_parameters():
        its.requires_grad_(name in trained)  # before 2.11 all are trained then
    return module

def gradients(wrapped):
    named = [(name, its.grad) for name, its in wrapped.named_parameters()]
    return {name: its.full_tensor() if hasattr(its, "full_tensor") else its for name, its in named}

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
        self.shares = False and given[0].ndim == 3
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

src = torch.tensor([[[0.126]]], dtype=torch.float64)

try:
    with torch.inference_mode():
        distributed(src)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    leave(1)

print("expected no error, got none")
leave(0)
