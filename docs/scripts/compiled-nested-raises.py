# nn.TransformerEncoder cannot be compiled if it might pack a padded batch (pytorch/pytorch#126025).
# To avoid it: Make the encoder with enable_nested_tensor=False (not in 2.0; if the encoder is not part of
#     nn.Transformer, and no query is fully masked, and float masks hold only 0 and -inf, and the activation is not
#     nn.GELU(approximate='tanh'), and no mask is learned beside frozen parameters; before 2.1 if masks are bool; before
#     2.3 if layers have biases; cost: speed).
# To avoid it: Make the module with batch_first=False, and give it inputs whose first dimension is the length (if the
#     input is a batch, and masks are bool or of the inputs' dtype; before 2.3 if layers have biases; before 2.5 if no
#     query is fully masked; cost: speed).
# To avoid it: Let parameters and inputs require a gradient, and make the call outside of torch.no_grad() (if masks are
#     bool or of the inputs' dtype, and no query has every key masked by a number such as -1e9; before 2.3 if layers
#     have biases; before 2.5 if no query is fully masked; cost: speed and memory: the call is recorded).
# To avoid it: Call torch.backends.mha.set_fastpath_enabled(False) first (from 2.3; if masks are bool or of the inputs'
#     dtype; before 2.3 if layers have biases; before 2.5 if no query is fully masked; cost: global: every module of the
#     process leaves its fast path, which is slower).
# To avoid it: Use PyTorch 2.5, or a later release.

import sys
import warnings

import torch
from torch import inf

print("torch", torch.__version__, torch.version.git_version, "python", sys.version, "on", "cpu")

if not hasattr(torch, "compile"):
    print("not applicable: this release has no torch.compile")
    sys.exit(2)

if torch.__version__ < "2.1":
    print("not applicable: this release has no such call, only 2.1 and later have")
    sys.exit(2)

layer = torch.nn.TransformerEncoderLayer(
    d_model=4, nhead=2, dim_feedforward=1, dropout=0.0, batch_first=True, dtype=torch.float64
)
module = torch.nn.TransformerEncoder(layer, 1)
module.eval()
torch._dynamo.reset()
function = torch.compile(module, backend="aot_eager")

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

src = torch.tensor([[[0.126, -0.132, 0.64, 0.105]]], dtype=torch.float64)

src_key_padding_mask = torch.tensor([[False]])

try:
    with torch.no_grad():
        compiled(src, src_key_padding_mask=src_key_padding_mask)
except Exception as error:
    print("expected no error, got", type(error).__name__, error)
    sys.exit(1)

print("expected no error, got none")
