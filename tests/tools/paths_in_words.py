"""The words that the entries use for the ways in which torch computes attention, each with its meaning."""

MEANINGS = (
    (
        "fast path",
        "Native code of nn.MultiheadAttention, for self-attention, and of nn.TransformerEncoderLayer. It computes a"
        " call in eval mode if autograd records nothing (torch.no_grad(), torch.inference_mode(), or no parameter and"
        " no input requires a gradient), batch_first=True, the input is a batch, and the number of heads is even; in"
        " an encoder layer only if the activation is ReLU or GELU, and in 1.13 only without an attention mask.",
    ),
    (
        "packed into a nested tensor",
        "nn.TransformerEncoder leaves out the padding of a batch that its layers compute on their fast path, if they"
        " have norm_first=False, and src_key_padding_mask is the only mask and has padding on the right alone.",
    ),
    (
        "the CPU's fused kernel",
        "Flash attention for CPU, in scaled_dot_product_attention: since 2.1 without a mask, since 2.3 with one."
        " Without weights (need_weights=False, and in all layers) nn.MultiheadAttention calls it, too. It takes inputs"
        " of four dimensions (since 2.14 also three) without dropout, and no mask that requires a gradient.",
    ),
    ("the math backend", "What scaled_dot_product_attention takes in all other calls: the formula, step by step."),
    (
        "weights computed explicitly",
        "The formula in nn.MultiheadAttention itself: with need_weights=True, its default, off the fast path; in 1.13"
        " in all calls off it.",
    ),
)
