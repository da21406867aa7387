# fully_shard adds the gradients of the processes on CPUs, and does not average them (pytorch/pytorch#162338).
# To avoid it: Wrap the module by DistributedDataParallel (cost: memory: each process holds all parameters).
# To avoid it: Use PyTorch 2.9, or a later release.

import copy
import os
import sys

os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(20000 + os.getpid() % 10000), "WORLD_SIZE": "2"}
os.environ["RANK"] = "0" if os.fork() else "1"

def leave(code):
    sys.stdout.flush()
    os._exit(code)  # threads of gloo may hang or abort a process that ends by itself

import torch

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if torch.__version__ < "2.7":
    print("not applicable: this release has no such call, only 2.7 and later have")
    sys.exit(2)

module = torch.nn.MultiheadAttention(embed_dim=1, num_heads=1, batch_first=True)
state = {
    "in_proj_weight": [[0.103], [-0.981], [-0.817]],
    "out_proj.weight": [[-1.028]],
    "in_proj_bias": [-0.287, 0.986, 0.197],
    "out_proj.bias": [-0.001],
}
module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

def wrapped(module):
    module, mesh = copy.deepcopy(module), init_device_mesh("cpu", (2,))
    for part in reversed(list(module.modules())):
        if part is module or isinstance(part, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
            fully_shard(part, mesh=mesh)
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
        self.shares = True and given[0].ndim == 3
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

query = torch.tensor([[[0.126], [-0.132]], [[0.64], [0.105]]])
key = torch.tensor([[[-0.536], [0.362]], [[1.304], [0.947]]])
value = torch.tensor([[[-0.704], [-1.265]], [[-0.623], [0.041]]])

key_padding_mask = torch.tensor([[False, False], [False, True]])

query.requires_grad_()
key.requires_grad_()
value.requires_grad_()
leaves = {**dict(module.named_parameters())}
cotangent_of_output = torch.tensor([[[-0.28], [0.516]], [[0.617], [0.629]]])
cotangent_of_weights = torch.tensor([[[-0.425, -1.361], [-1.392, 1.385]], [[-1.029, 0.522], [-0.582, -0.596]]])

output, weights = distributed(query, key, value, key_padding_mask=key_padding_mask)
gradients = torch.autograd.grad(
    [output, weights], list(leaves.values()), [cotangent_of_output, cotangent_of_weights], allow_unused=True
)

directions = {
    "in_proj_weight": [-0.673, -0.849, 0.073],
    "out_proj.weight": [-1.097],
    "in_proj_bias": [1.475, -1.237, -1.074],
    "out_proj.bias": [-0.056],
}
slopes = {"in_proj_weight": 0.11417, "out_proj.weight": -1.23285, "in_proj_bias": 1.08481, "out_proj.bias": -0.08299}
wrong = False
for name, gradient in zip(leaves, gradients):
    direction = leaves[name].new_tensor(directions[name])
    slope = None if gradient is None else (gradient.double().flatten() * direction).sum().item()
    print(f"derivative along {name}: expected {slopes[name]}, got {slope}")
    wrong = wrong or not abs((slope or 0) - slopes[name]) <= 9e-05

leave(bool(wrong))
