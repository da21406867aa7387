# nn.TransformerEncoder built by inductor raises in eval mode for a transposed src (pytorch/pytorch#193966).
# To avoid it: Give src.contiguous() (if no query is fully masked, and float masks hold only 0 and -inf, and the
#     activation is not nn.GELU(approximate='tanh')).

import sys
import warnings

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "compile"):
    print("not applicable: this release has no torch.compile")
    sys.exit(2)

if torch.__version__ < "2.6":
    print("not applicable: this release has no such call, only 2.6 and later have")
    sys.exit(2)

module = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module.eval()
torch._dynamo.reset()
function = torch.compile(module, backend="inductor")

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

src = torch.tensor(
    [
        [[0.126, -0.132, 0.64, 0.105], [-0.536, 0.362, 1.304, 0.947], [-0.704, -1.265, -0.623, 0.041]],
        [[-2.325, -0.219, -1.246, -0.732], [-0.544, -0.316, 0.412, 1.043], [-0.129, 1.366, -0.665, 0.352]],
    ],
    dtype=torch.float64,
)
src = src.permute(2, 1, 0).contiguous().permute(2, 1, 0)

try:
    with torch.no_grad():
        compiled(src)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
