"""The names of the paths by which torch computes an attention. Records, pages and ids of tests have them: never rename.

A release chooses a path for each block (deviations/paths.py); a call shows the function of torch that was entered
(execution/watching.py). Both have the same names, except that a call shows which kernel served in place of BY_SDPA, and
NATIVE_ENCODER_LAYER in place of NATIVE_LAYER.
"""

EXPLICIT = "explicit"  # the weights are computed by softmax, and can be returned
BY_SDPA = "sdpa"  # by scaled_dot_product_attention, in one of its kernels
NATIVE_MHA = "native_mha"  # the fast path of nn.MultiheadAttention
NATIVE_LAYER = "native_layer"  # the fast path of nn.TransformerEncoderLayer
NATIVE_ENCODER_LAYER = "native_encoder_layer"  # the same, as a call shows it
NESTED = "nested"  # nn.TransformerEncoder packs the batch into a nested tensor; the path of each layer follows
NATIVE_PATHS = (NATIVE_MHA, NATIVE_LAYER, NATIVE_ENCODER_LAYER, NESTED)
AS_WRITTEN = "written"  # attention written by hand, which the compiler has not rewritten
DETECTION = "detection"  # no path: a stack reads a mask to choose one

# ---- the kernels of scaled_dot_product_attention

SDPA_MATH = "sdpa_math"
SDPA_FLASH = "sdpa_flash"  # the fused kernel of the CPU, or FlashAttention
SDPA_EFFICIENT = "sdpa_efficient"
SDPA_CUDNN = "sdpa_cudnn"
SDPA_OVERRIDEABLE = "sdpa_overrideable"  # of a backend outside of torch
SDPA_NONE = "sdpa_none"  # no kernel takes the call
# In the order of torch.nn.attention.SDPBackend.
KERNELS = (SDPA_MATH, SDPA_FLASH, SDPA_EFFICIENT, SDPA_CUDNN, SDPA_OVERRIDEABLE)
