"""Words of readers for the entries of the ledger of wrong masks: {id: (symptom in a sentence, aliases)}."""

# ruff: noqa: E501
WORDS = {
    "native-hint-without-mask": (
        "In eval mode is_causal=True without a mask has no effect: every query sees the future.",
        "is_causal; is_causal=True; is_causal without mask; is_causal ignored; is_causal no effect; not causal in eval; sees the future; Need attn_mask if specifying the is_causal hint; need attn_mask; causal eval; future leak; information leak; TransformerEncoder is_causal",
    ),
    "causal-bias-size-ignored": (
        "A causal bias made for the prompt, used again with a KV cache, shows the next query only the first key.",
        "kv cache; is_causal kv cache; kv cache causal_lower_right; CausalBias; torch.nn.attention.bias; decoding step sees only the first token; generation wrong; incremental decoding; causal_upper_left; cache mask",
    ),
    "causal-bias-as-memory": (
        "A causal bias given to nn.MultiheadAttention or an encoder layer adds uninitialised memory to the scores.",
        "CausalBias; causal_lower_right MultiheadAttention; causal_upper_left; torch.nn.attention.bias module; random output; nondeterministic",
    ),
    "hint-hides-mask": (
        "Off the fast paths, is_causal=True silently replaces another mask than a causal one.",
        "is_causal; is_causal=True with mask; is_causal ignores mask; mask ignored; wrong mask accepted; src_mask is_causal; false hint; window mask is_causal; sliding window is_causal",
    ),
    "sdpa-mask-with-hint": (
        "scaled_dot_product_attention takes attn_mask together with is_causal=True (2.3 to 2.13).",
        "is_causal and attn_mask; attn_mask is_causal together; Explicit attn_mask should not be set when is_causal=True; both mask and is_causal; padding and causal sdpa",
    ),
    "native-padding-by-elements": (
        "A transposed padding mask (S, N) beside an attention mask is accepted in eval mode and hides the wrong keys.",
        "padding mask shape; transposed padding mask; key_padding_mask (S, N); src_key_padding_mask shape; batch_first padding mask; wrong shape accepted; seq first padding",
    ),
    "native-mask-by-elements": (
        "In eval mode an attention mask of any shape with the right number of elements is accepted.",
        "attn_mask shape; wrong mask shape accepted; reshaped mask; mask shape; (N, num_heads, L, S); 4D mask; 4-D mask; four dimensions; mask view",
    ),
    "native-mask-per-sample": (
        "In eval mode a mask for each sample (N, L, L) is accepted beside padding, but not in training.",
        "mask per sample; per-sample mask; (N, L, L) mask; batch mask; 3D attn_mask; 3-D mask; The shape of the 3D attn_mask is",
    ),
    "native-mask-size-unnamed": (
        "A mask of a wrong size raises in eval mode: shape '[1, 1, L, L]' is invalid for input of size ...",
        "shape '[1, 1, 4, 4]' is invalid for input of size; shape is invalid for input of size; RuntimeError shape invalid; attn_mask wrong size; wrong mask size; DataParallel mask; view size",
    ),
    "native-padding-size-unnamed": (
        "A padding mask of a wrong size beside an attention mask raises in eval mode, without its name.",
        "shape '[2, 1, 1, 4]' is invalid for input of size; padding mask wrong size; key_padding_mask shape error; shape is invalid for input of size",
    ),
    "native-padding-size-as-attn-mask": (
        "A padding mask of a wrong size raises an error about attn_mask, which was not given (1.13).",
        "attn_mask shape error; padding mask wrong size; The shape of the 2D attn_mask is; names attn_mask",
    ),
    "sdpa-mask-shape-unnamed": (
        "scaled_dot_product_attention refuses a mask that does not broadcast, without its name.",
        "The size of tensor a must match the size of tensor b at non-singleton dimension; The expanded size of the tensor must match the existing size; mask does not broadcast; broadcast error; sdpa mask shape; doesn't match the broadcast shape; (N, L, S) mask sdpa; shape mismatch",
    ),
    "sdpa-mask-1d-unnamed": (
        "scaled_dot_product_attention raises IndexError for a 1-D mask of a wrong length.",
        "IndexError: Dimension out of range; 1-D mask; 1D mask; flat mask",
    ),
    "sdpa-float32-mask": (
        "scaled_dot_product_attention takes a float32 mask beside a half-precision query.",
        "Expected attn_mask dtype to be bool or to match query dtype; expected mask dtype; expected mask dtype sdpa; mask dtype; float32 mask bfloat16; float mask half query; invalid dtype for bias; mask of another dtype",
    ),
    "fused-float32-mask": (
        "A float32 mask beside float64 inputs hides only half of the keys.",
        "float32 mask float64; double model; .double(); mask ignored; masked keys leak; dtype mismatch mask; half of the keys",
    ),
    "explicit-mask-precision-unnamed": (
        "A float mask of another precision raises an error about baddbmm.",
        "baddbmm; Input dtypes must be the same; expected m1 and m2 to have the same dtype; mask dtype mismatch; attn_mask dtype; expected scalar type; self and batch1; float mask half model; expected mask dtype",
    ),
    "padding-precision-as-attn-mask": (
        "A float padding mask of another precision raises an error about attn_mask, which was not given.",
        "Expected attn_mask dtype to be bool or to match query dtype; expected mask dtype; expected mask dtype padding; invalid dtype for bias; src_key_padding_mask dtype; key_padding_mask float dtype; names attn_mask",
    ),
    "decoder-integer-mask-unnamed": (
        "An integer tgt_mask raises an error that does not name the mask.",
        "tokenizer mask tgt_mask; integer mask; int mask; tgt_mask int64; value cannot be converted to type int64_t without overflow; attention_mask as tgt_mask; LongTensor mask; uint8 mask; byte mask; value cannot be converted",
    ),
    "sdpa-value-length": (
        "scaled_dot_product_attention takes key and value of different lengths.",
        "key and value length; value length mismatch; kv length; value longer than key; foreign memory; kv cache length mismatch",
    ),
    "meta-mask-undefined": (
        "A mask on the meta device gives uninitialised results.",
        "meta device; torch.device meta; mask on meta; uninitialised output; init_empty_weights; accelerate meta; mask on another device; wrong device",
    ),
    "meta-mask-meta-result": (
        "A mask on the meta device gives a result on the meta device (1.13).",
        "meta device; mask on meta; output is meta tensor; init_empty_weights; wrong device",
    ),
    "meta-mask-unnamed": (
        "A mask on the meta device raises an error that does not name it.",
        "meta device; Could not run with arguments from the 'Meta' backend; mask on meta; device mismatch; wrong device",
    ),
    "cpu-mask-unnamed": (
        "A mask on the CPU beside inputs on CUDA raises an error that does not name it.",
        "Expected all tensors to be on the same device, but found at least two devices; device mismatch; mask on cpu; cuda:0 and cpu; same device; mask device; register_buffer mask; mask.to(device)",
    ),
}
