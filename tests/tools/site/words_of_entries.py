"""Words of readers for the entries of the ledger, in the order in which people meet the entries.

{id: (symptom in a sentence, aliases separated by semicolons)}
"""

# ruff: noqa: E501
WORDS = {
    # ---- NaN
    "empty-row-nan-explicit": (
        "The output and the attention weights are NaN for a sample or a query whose keys are all masked.",
        "fully masked; all masked; all padding; all-padded sample; entire row masked; every key masked; key_padding_mask all True; attn_mask all -inf; nan output; nan loss; nan attention weights; nan gradients; need_weights=True; returns nan; nan with padding; softmax of -inf; empty sequence nan; MultiheadAttention nan; left padding nan",
    ),
    "empty-row-nan-native": (
        "The model is fine in training, but in eval mode without gradients a fully masked query gives NaN, and so do later layers.",
        "nan in eval; nan in inference; nan only with no_grad; nan at validation; fully masked eval; all padding eval; src_key_padding_mask nan; key_padding_mask nan; fast path nan; fastpath nan; left padding causal nan eval; model.eval nan; inference_mode nan; TransformerEncoder nan output eval; validation loss nan; all-padded sample",
    ),
    "empty-row-nan-sdpa": (
        "scaled_dot_product_attention returns NaN for a query whose keys are all masked (before 2.5).",
        "sdpa nan; fully masked sdpa; scaled_dot_product_attention nan; all False mask; bool mask all False; all -inf mask; attn_mask nan; left padding nan sdpa; all masked out row; nan before 2.5; fully masked rows zeros or nan",
    ),
    "hidden-nan-sdpa": (
        "NaN or inf in a masked position makes the outputs NaN, although the mask hides it.",
        "nan in padding; nan inside padding; masked nan leaks; nan in masked position; inf in padding; uninitialised padding; torch.empty padding; nan in value; nan in kv cache; nan not masked; padding contains nan; 0 * nan",
    ),
    "hidden-nan-explicit": (
        "NaN in a padded position makes the whole sample NaN, although key_padding_mask hides it.",
        "nan in padding; nan inside padding; nan in padded position; key_padding_mask nan input; masked nan leaks; padding contains nan; nan in masked position; need_weights nan",
    ),
    "hidden-nan-native": (
        "In eval mode NaN in a padded position makes the whole sample NaN, although the mask hides it.",
        "nan in padding eval; nan inside padding; masked nan leaks in inference; padding contains nan; fast path nan padding; src_key_padding_mask nan input",
    ),
    "nan-mask-spreads": (
        "NaN in the mask of a padded query makes all tokens NaN from the second layer on, although padding hides it.",
        "nan in mask; nan in attn_mask; mask contains nan; nan in attention bias; src_mask nan; normalised bias nan; log of zero mask; 0 / 0 in bias; nan spreads between layers; all outputs nan second layer",
    ),
    # ---- train and eval differ
    "native-layer-float-mask": (
        "An encoder with a float mask, such as ALiBi, computes something else in eval mode than in training, or gives NaN.",
        "alibi; alibi eval; alibi nan; relative position bias; relative bias; attention bias; additive mask; float src_mask; src_mask float; float mask ignored; float mask treated as bool; finite mask; train and eval differ; different output in eval; no_grad changes output; no_grad; inference_mode; inference wrong; fast path float mask; mask with finite values; distance bias; T5 bias; learned bias; soft mask; float src_key_padding_mask; attention penalty; nan with alibi bias in eval",
    ),
    "native-mha-float-mask": (
        "nn.MultiheadAttention with a float mask computes something else in eval mode than in training (before 2.1).",
        "float attn_mask eval; MultiheadAttention float mask; alibi MultiheadAttention; no_grad changes output; no_grad; attention bias eval; additive attn_mask ignored; TransformerDecoder differs in eval; tgt_mask float eval",
    ),
    "nested-padding-zero": (
        "In eval mode the outputs at padded positions are exactly 0, but not in training.",
        "zeros at padding; output zero at padded positions; padded outputs zero; train and eval differ; eval output differs from train; no_grad changes output; no_grad; src_key_padding_mask eval; src_key_padding_mask no_grad; enable_nested_tensor; nested tensor output; output all zeros for padding; mean pooling eval",
    ),
    "nested-truncates": (
        "In eval mode the output is shorter than the input (before 2.1).",
        "output shorter; output shape changed; sequence length changes; wrong output length; output truncated; shape mismatch in eval; padding cut off; The size of tensor a must match the size of tensor b; fewer positions; output sequence length differs; max length of batch; src_key_padding_mask output shape; The shape of the 2D attn_mask is; expecting key_padding_mask shape of",
    ),
    "nested-float-padding": (
        "A float padding mask hides in eval mode what it only weighs down in training.",
        "float src_key_padding_mask; float padding mask; float padding eval; src_key_padding_mask float; padding mask finite values; src_key_padding_mask additive; train and eval differ; padding mask gets no gradient",
    ),
    "nested-all-padding": (
        "In eval mode an encoder raises if every sample of the batch is padding.",
        "at least one constituent tensor should have non-zero numel; to_padded_tensor; all samples padding; all padding batch; whole batch padding; src_key_padding_mask all True; empty sequences; AcceleratorError; all-padded sample raises; RuntimeError to_padded_tensor",
    ),
    "nested-unaligned": (
        "With padding on the left and mask_check=False, or in a trace, the wrong tokens are kept.",
        "mask_check; mask_check=False; left padding eval; padding in the middle; left-padded batch wrong; traced encoder wrong padding; torch.jit.trace padding; scattered padding",
    ),
    "nested-prototype-warning": (
        "A padded batch in eval mode warns that nested tensors are in prototype stage.",
        "UserWarning: The PyTorch API of nested tensors is in prototype stage and will change in the near future; nested tensors prototype; prototype warning; suppress warning; warning src_key_padding_mask; silence nested tensor warning; UserWarning",
    ),
    "nested-partly-frozen": (
        "Fine-tuning with frozen first layers raises in eval mode, or trains nothing.",
        "MultiheadAttention does not support NestedTensor outside of its fast path; frozen layers; freeze first layer; fine-tuning frozen encoder; requires_grad False; AssertionError NestedTensor; transfer learning eval; grad is enabled and query or parameters require grad",
    ),
    "decoder-activation-module": (
        "A decoder that was given nn.GELU() as its activation computes ReLU.",
        "activation; nn.GELU; activation module ignored; activation=nn.GELU(); decoder activation; relu instead of gelu; TransformerDecoder gelu; deepcopy activation; SiLU decoder; swish; Expected Module but got",
    ),
    "native-layer-gelu": (
        "On CUDA an encoder layer with GELU differs between training and eval mode by up to 5e-4.",
        "gelu eval; gelu cuda; tanh approximation; activation gelu differs; train and eval differ slightly; small difference eval cuda; gelu approximate",
    ),
    "native-layer-gelu-tanh": (
        "On CPU an encoder layer with nn.GELU(approximate='tanh') differs between training and eval mode.",
        "gelu tanh; approximate tanh; gelu approximate eval; activation differs; gelu_new; train and eval differ slightly; exact gelu",
    ),
    # ---- gradients
    "flash-gradient-finfo-min": (
        "Gradients explode, by a factor of the number of keys, where a whole row is masked with -1e9 or finfo.min.",
        "-1e9; 1e9; finfo.min; torch.finfo(dtype).min; large negative mask; exploding gradients; gradient too large; masked_fill -1e9; -1e4; -10000; wrong gradients mask; huge gradients; loss diverges after upgrade; fully masked -1e9; float('-1e9'); hugging face mask finfo min; padded rows gradient",
    ),
    "causal-mask-gradient": (
        "A learnable float mask that begins as causal never gets a gradient.",
        "mask grad None; mask.grad is None; learnable mask; learned mask gradient; trainable attention bias causal; requires_grad mask; src_mask requires_grad; mask no gradient; causal mask parameter; is_causal detection; learnable relative position bias gradient",
    ),
    "native-layer-mask-gradient": (
        "With a frozen encoder, backward through a learnable mask raises in eval mode.",
        "derivative for aten::_transformer_encoder_layer_fwd is not implemented; learnable mask frozen; prompt tuning mask; mask requires_grad eval; frozen encoder learn mask; trainable mask backward raises",
    ),
    "native-mha-mask-gradient": (
        "With a frozen attention, backward through a learnable mask raises in eval mode (before 2.1).",
        "derivative for aten::_native_multi_head_attention is not implemented; learnable attn_mask; mask requires_grad eval; frozen attention; trainable mask backward raises",
    ),
    "vmap-mask-gradient": (
        "A learnable mask that torch.func.vmap maps raises.",
        "The function '_scaled_dot_product_flash_attention_for_cpu' is not differentiable with respect to argument 'attn_mask'; This input cannot have requires_grad True; vmap; torch.func.vmap; vmap learnable mask; per-sample attention bias gradient; ensemble mask; requires_grad lost in vmap; learned bias vmap",
    ),
    "vmap-native-gradient": (
        "With a frozen model in eval mode, backward through torch.func.vmap raises.",
        "derivative for aten::_native_multi_head_attention is not implemented; derivative for aten::_transformer_encoder_layer_fwd is not implemented; vmap; torch.func.vmap; vmap eval backward; input gradient vmap; saliency vmap; requires_grad False inside vmap; frozen model vmap",
    ),
    # ---- causal masks
    "causal-hint-hides-appended-keys": (
        "With is_causal=True the keys of add_bias_kv and add_zero_attn are hidden.",
        "add_bias_kv; add_zero_attn; bias_k; bias_kv is_causal; appended key; is_causal need_weights=False different output; attention sink; zero attention",
    ),
    "hint-excludes-mask": (
        "nn.MultiheadAttention refuses a mask given together with is_causal=True (2.0.0).",
        "Only allow causal mask or attn_mask; is_causal and attn_mask; AssertionError is_causal; src_mask and is_causal together; is_causal 2.0.0",
    ),
    "traced-causal-mask": (
        "A traced encoder applies the causal mask that it was traced with, whichever mask it gets later.",
        "torch.jit.trace mask; jit trace; traced model ignores mask; trace baked in mask; torchscript causal; trace is_causal; mask ignored after trace; onnx causal mask constant; exported model ignores mask; src_mask ignored",
    ),
    "flash-causal-negative-scale": (
        "scaled_dot_product_attention with is_causal=True and a scale of 0 or less gives NaN.",
        "scale; scale=0; negative scale; is_causal nan; scale nan; softmax scale; scale=0.0; temperature",
    ),
    "flash-first-keys-hidden": (
        "In a long sequence a query that sees none of the first 512 keys gets NaN (2.3 to 2.4.0).",
        "sliding window nan; long sequence nan; local attention nan; 512; block mask nan; window mask nan sdpa; mistral sliding window; nan long context; document mask nan; packed sequences nan",
    ),
    # ---- dtypes
    "flash-float32-mask": (
        "A float32 mask with float64 inputs is ignored for half of the keys.",
        "float32 mask float64; double model; .double(); dtype mismatch mask; mask ignored; attends to masked keys; mask has no effect; float64 query float32 mask; masked keys leak; mask precision; default dtype float64 mask",
    ),
    "autocast-mask-overflow": (
        "Under autocast a mask of finfo.min overflows to -inf, and fully masked rows become NaN or 0.",
        "autocast; amp; mixed precision; bf16; bfloat16 nan; fp16 nan; half nan; finfo.min autocast; finfo min bfloat16; mask overflow; -inf autocast; torch.finfo(torch.float32).min; nan with amp; mixed precision nan; bf16 nan",
    ),
    "autocast-nested-raises": (
        "A padded encoder raises in eval mode under torch.autocast on CPU.",
        "autocast cpu; autocast eval; autocast padding; expected scalar type; expected scalar type BFloat16 but found Float; mixed precision cpu; amp cpu inference; src_key_padding_mask autocast; unexpected scalar type; must have the same dtype",
    ),
    "autocast-mask-raises": (
        "Attention with a mask raises under autocast on CPU (before 2.2).",
        "Expected attn_mask dtype to be bool or to match query dtype; expected mask dtype; Expected attn_mask dtype; autocast mask raises; autocast cpu mask; amp mask dtype; attn_mask dtype autocast; key_padding_mask autocast",
    ),
    "autocast-native-layer-raises": (
        "An encoder layer raises in eval mode under autocast on CPU (before 2.6).",
        "autocast cpu eval; mat1 and mat2 must have the same dtype; autocast encoder layer; amp cpu inference; expected scalar type",
    ),
    "autocast-native-attention-raises": (
        "nn.MultiheadAttention raises in eval mode under autocast on CPU (before 2.2).",
        "autocast cpu eval MultiheadAttention; mat1 and mat2 must have the same dtype; amp cpu inference; expected scalar type",
    ),
    "autocast-native-layer-dtype": (
        "Under autocast on CPU an encoder layer returns bfloat16 or float16 in eval mode, but float32 in training.",
        "autocast output dtype; bfloat16 output eval; dtype differs eval; amp dtype; output dtype bfloat16",
    ),
    "autocast-native-attention-empty": (
        "Under autocast on CPU an empty batch has another dtype in eval mode (before 2.2).",
        "autocast empty batch; dtype empty batch",
    ),
    "autocast-weights-dtype": (
        "Under autocast on CUDA the attention weights are float32, and the output is not.",
        "autocast weights dtype; attn_output_weights dtype; need_weights autocast; weights float32",
    ),
    "float16-mask-overflow": (
        "In float16 a mask of finfo.min plus a negative score overflows, and the row becomes NaN.",
        "float16 nan; fp16 nan; half precision nan; finfo.min half; -65504; float16 overflow mask; half nan; mask overflow fp16",
    ),
    "explicit-mask-overflows": (
        "A float32 mask of finfo.min with half-precision inputs gives NaN (before 2.1).",
        "finfo.min; mask overflow; float32 mask half; mask becomes -inf; half model float mask nan",
    ),
    "sdpa-mask-overflows": (
        "A float32 mask of finfo.min with bfloat16 or float16 inputs gives NaN (2.4).",
        "finfo.min; mask overflow; bfloat16 float32 mask; mask becomes -inf; half query float32 mask; mixed precision nan",
    ),
    "bool-mask-float-padding": (
        "A bool attn_mask with a float key_padding_mask: the padding mask is read as bool (1.13).",
        "bool mask float padding; mixed mask types; float key_padding_mask; mismatched masks; alibi padding",
    ),
    "float-mask-float-padding": (
        "A float attn_mask with a float key_padding_mask: the padding is ignored, or the call raises (1.13).",
        "Mask tensor can take 0 and 1 values only; both float masks; float masks; float key_padding_mask ignored; padding ignored; two float masks",
    ),
    "square-mask-default-dtype": (
        "generate_square_subsequent_mask gives float32, although the default dtype is another one (before 2.6).",
        "generate_square_subsequent_mask dtype; set_default_dtype; default dtype; causal mask dtype; square mask float64; generate_square_subsequent_mask",
    ),
    "square-mask-default-device": (
        "generate_square_subsequent_mask gives a mask on the CPU, although the default device is another one (before 2.6).",
        "generate_square_subsequent_mask device; set_default_device; default device; causal mask on cpu; Expected all tensors to be on the same device; generate_square_subsequent_mask",
    ),
    # ---- compile, export, script
    "compiled-whole-padding-raises": (
        "torch.compile(fullgraph=True) refuses an encoder with padding (before 2.10).",
        "torch.compile; fullgraph; fullgraph=True; fullgraph padding; graph break; compile src_key_padding_mask; dynamo graph break; Unsupported _nested_tensor_from_mask_left_aligned; data-dependent; torch._dynamo.exc.Unsupported",
    ),
    "compiled-nested-raises": (
        "A padded encoder cannot be compiled (before 2.5).",
        "torch.compile; TorchRuntimeError; compile encoder; compile src_key_padding_mask; dynamo fake tensor nested; torch.compile padding; Failed running call_module; _nested_tensor_from_mask",
    ),
    "built-native-layer-transposed": (
        "A compiled encoder raises in eval mode for a transposed src (since 2.13).",
        "torch.compile; inductor; expected size stride; assert_size_stride; AssertionError expected size; transpose compile; compiled encoder transposed; batch_first transpose",
    ),
    "built-mask-by-positions": (
        "A compiled function that makes its mask from positions raises at the second length (2.6 to 2.12).",
        "torch.compile; inductor; CppCompileError; C++ compile error; was not declared in this scope; InductorError; BackendCompilerFailed; recompile; automatic dynamic shapes; mask inside compiled function; mask_function; create_causal_mask; padding_mask_function; transformers masking_utils; and_masks closure; generate prefill decode",
    ),
    "built-mask-of-stepped-key": (
        "A compiled function that makes its mask from positions raises for a key that is a slice with a step (since 2.13).",
        "torch.compile; inductor; CppCompileError; C++ compile error; was not declared in this scope; InductorError; strided key; slice with step; non-contiguous key; head_dim 1; recompile",
    ),
    "built-float64-gradient": (
        "Training in float64 raises in the backward pass if attention is compiled (2.4 to 2.12).",
        "torch.compile; inductor; expected scalar type Double but found Float; float64; double; backward; loss.backward; compiled training; double precision; _scaled_dot_product_flash_attention_for_cpu_backward; logsumexp dtype",
    ),
    "written-scale-lost": (
        "Attention that is written by hand computes other numbers when compiled, silently: it loses its scale (2.4 to 2.11).",
        "torch.compile; inductor; wrong result compiled; compiled differs from eager; torch.compile wrong output; fuse_attention; sfdp; sdpa pattern; pattern matcher; custom attention compile; manual attention; handwritten attention; own scale; temperature; scaled dot product written out; softmax(q @ k / s + mask); inv_scale; GPT-2 attention; BERT attention",
    ),
    "written-key-transposed": (
        "Attention that is written by hand computes other numbers when compiled, silently, if its key is permuted in one step (2.4 to 2.14).",
        "torch.compile; inductor; wrong result compiled; compiled differs from eager; wrong shape compiled; fuse_attention; sfdp; sdpa pattern; pattern matcher; custom attention compile; handwritten attention; permuted key; k.permute(0, 2, 3, 1); key transposed twice; heads and keys swapped; BackendCompilerFailed; Attempting to broadcast a dimension of length; Expected size for first two dimensions of batch2 tensor; batch size 1; one head",
    ),
    "written-batch-key-transposed": (
        "Attention of several samples that is written by hand computes other numbers when compiled, silently, if its key is permuted in one step and its scores are multiplied (2.12 to 2.14).",
        "torch.compile; inductor; wrong result compiled; compiled differs from eager; wrong only without gradients; torch.no_grad compiled wrong; fuse_attention; sfdp; sdpa pattern; pattern matcher; custom attention compile; handwritten attention; permuted key; k.permute(0, 2, 3, 1); scores * scale; batch; heads and keys swapped; BackendCompilerFailed; InductorError; Attempting to broadcast a dimension of length",
    ),
    "written-tensor-scale-raises": (
        "Attention that is written by hand cannot be compiled if its divisor is a tensor (2.12 to 2.14).",
        "torch.compile; inductor; BackendCompilerFailed; Expected a value of type 'Optional[float]' for argument 'scale'; cannot extract float from tensor with meta storage; tensor scale; learned temperature; learnable scale; custom attention compile; FakeTensor scale",
    ),
    "written-empty-row": (
        "A fully masked query of attention that is written by hand gives zeros when compiled, NaN otherwise.",
        "torch.compile; inductor; nan only eager; nan disappears when compiled; compiled gives zeros; fully masked compile; custom attention nan; handwritten attention; softmax of -inf; finfo.min mean of values",
    ),
    "exported-padding-of-a-view": (
        "torch.export refuses a padded encoder whose src is a slice of a larger tensor (2.5).",
        "torch.export; export padding; UnsupportedOperatorException; export src_key_padding_mask; aten._nested_tensor_from_mask_left_aligned.default; onnx export encoder",
    ),
    "exported-masks-out-of-order": (
        "torch.export with dynamic shapes raises KeyError if both masks are given by name (2.5 to 2.7).",
        "torch.export; export KeyError; dynamic_shapes; export both masks; KeyError 0; export key_padding_mask attn_mask; onnx dynamo export",
    ),
    "scripted-without-bias": (
        "A module with bias=False cannot be scripted.",
        "torch.jit.script; script bias=False; 'NoneType' object has no attribute or method 'dtype'; torchscript bias; jit script MultiheadAttention; in_proj_bias None",
    ),
    "scripted-native-no-weights": (
        "A scripted nn.MultiheadAttention raises in eval mode with need_weights=False.",
        "torch.jit.script; strides() called on an undefined Tensor; scripted need_weights=False; torchscript eval; jit MultiheadAttention",
    ),
    "torchscript-nested-sum": (
        "A scripted or traced encoder, partly frozen, raises from its second call on.",
        "NestedTensorImpl doesn't support sizes; torchscript second call; jit script fails on second forward; torch.jit nested tensor; partly trained jit",
    ),
    "nested-checkpoint": (
        "torch.utils.checkpoint around a partly frozen encoder raises in eval mode.",
        "checkpoint; activation checkpointing; gradient checkpointing; use_reentrant=False; NestedTensorImpl doesn't support sizes; checkpoint padding",
    ),
    "checkpoint-autocast-warning": (
        "torch.utils.checkpoint warns of a deprecated torch.cpu.amp.autocast (2.4).",
        "FutureWarning: torch.cpu.amp.autocast(args...) is deprecated; checkpoint warning; gradient checkpointing warning; use_reentrant=False warning",
    ),
    "func-nested-raises": (
        "torch.func.grad or vjp through a padded encoder raises in eval mode.",
        "torch.func; functorch; vjp; jvp; NestedTensorImpl doesn't support strides; torch.func.grad padding; per-sample gradients; jacobian encoder",
    ),
    "ensemble-nested-raises": (
        "An ensemble of padded encoders raises in eval mode.",
        "torch.func; functorch; vmap; stack_module_state; functional_call; model ensembling; ensemble; Could not run 'aten::stack' with arguments from the 'NestedTensorCPU' backend; NestedTensorCPU; vmap over parameters; src_key_padding_mask vmap",
    ),
    "func-jvp-expanded": (
        "torch.func.jvp raises if the mask was made by expand.",
        "jvp; forward mode; forward AD; more than one element of the written-to tensor refers to a single memory location; expand mask jvp; jacfwd",
    ),
    "nested-second-derivative": (
        "A second derivative through a padded encoder in eval mode raises.",
        "second derivative; double backward; create_graph; create_graph=True; gradient penalty; hessian; NestedTensorImpl doesn't support sizes; grad of grad",
    ),
    "fake-native-weights": (
        "On fake tensors attention returns weights that were not asked for.",
        "FakeTensorMode; fake tensor; meta kernel; need_weights=False fake; shape inference",
    ),
    # ---- sdpa kernels
    "sdpa-mask-of-few-dimensions": (
        "scaled_dot_product_attention raises IndexError for a mask of shape (S,) or a scalar.",
        "IndexError: Dimension out of range (expected to be in range of [-1, 0], but got -2); 1-D mask; 1D mask sdpa; scalar mask; mask shape (S,); attn_mask one dimension; broadcast mask sdpa",
    ),
    "flash-mask-one-key": (
        "A mask of shape (..., L, 1) in scaled_dot_product_attention gives garbage (2.3, 2.4).",
        "broadcast mask; mask last dimension 1; mask (L, 1); random output; garbage output; out of bounds read; broadcast over keys; nondeterministic sdpa",
    ),
    "flash-nan-query-zero": (
        "NaN in a query disappears: the output is 0.",
        "nan lost; nan hidden; nan query zero; nan swallowed; debugging nan; detect_anomaly; nan becomes zero",
    ),
    "flash-scale-zero-forgets-nan": (
        "NaN in a query disappears if scale is 0 (2.1, 2.2).",
        "scale=0; scale=0.0; nan lost; nan query",
    ),
    "flash-no-heads": (
        "scaled_dot_product_attention crashes with SIGFPE if there are no heads (2.9 to 2.11).",
        "SIGFPE; floating point exception; crash; zero heads; empty heads; process died",
    ),
    "flash-gradient-bfloat16": (
        "In bfloat16 with head_dim 1 gradients differ from run to run (2.7 to 2.10).",
        "bfloat16 gradient wrong; head_dim 1; nondeterministic gradients; random gradients bf16; bf16 backward",
    ),
    "bfloat16-long-sums": (
        "In bfloat16 over more than 256 keys the output is too small, on CPUs with AVX2.",
        "bfloat16 long sequence; bf16 accumulates; bf16 wrong cpu; sum saturates; bfloat16 precision cpu; accuracy bf16 long context",
    ),
    "bfloat16-sums-on-mask": (
        "In bfloat16 the same large number in a whole mask changes the weights of a small call (2.0).",
        "bfloat16 mask precision; bf16 float mask weights wrong; autocast mask loses digits; large mask bf16; baddbmm bfloat16",
    ),
    "bfloat16-nan-spreads": (
        "In bfloat16 on CPUs with AMX, NaN of one sample turns up in others.",
        "AMX; bfloat16 nan spreads; oneDNN nan; bf16 nan other samples; sapphire rapids; mkldnn bf16 nan",
    ),
    "sdpa-no-keys-nan-spreads": (
        "Without keys one NaN in a query makes the whole batch NaN (since 2.12).",
        "empty keys; no keys; S=0; zero-length memory; empty cache nan; zero keys",
    ),
    "sdpa-no-features-zero": (
        "Queries and keys without features give zeros, not the mean of the values (2.12).",
        "head_dim 0; no features; zero features; empty query; E=0",
    ),
    "lower-right-bias-warning": (
        "causal_lower_right warns of NaN that does not come.",
        "causal_lower_right; Lower right causal bias will produce NaNs; CausalBias warning; torch.nn.attention.bias; kv cache bias warning",
    ),
    # ---- CUDA
    "cudnn-bool-mask": (
        "On an H100 in half precision a fully masked query attends to all keys.",
        "cudnn; H100; cuda fully masked; bool mask half cuda; cudnn attention; fully masked cuda; masked keys visible gpu; H200; hopper; fp16 mask gpu; bf16 mask gpu",
    ),
    "fused-finfo-min": (
        "On CUDA a query whose keys all have finfo.min gets 0.",
        "finfo.min cuda; memory efficient attention mask; efficient kernel; gpu cpu differ; fully masked finfo cuda; output zero gpu",
    ),
    "fused-scale-not-positive": (
        "On CUDA a scale of 0 or less gives NaN.",
        "scale cuda; negative scale gpu; scale=0 nan cuda; flash attention scale",
    ),
    "efficient-lower-right": (
        "On CUDA causal_lower_right with more queries than keys gives wrong outputs.",
        "causal_lower_right cuda; CausalBias gpu; lower right more queries than keys; kv cache cuda wrong",
    ),
    "efficient-mask-alone": (
        "On CUDA backward raises if only the mask requires a gradient.",
        "LSE is not correctly aligned; logsumexp; only mask requires grad cuda; learnable bias gpu; frozen model learn mask cuda",
    ),
    "efficient-mask-alone-one-head": (
        "On CUDA backward ends in an illegal memory access if only the mask of one head requires a gradient.",
        "illegal memory access; CUDA error; learnable bias gpu crash; AcceleratorError",
    ),
    "efficient-mask-one-key": (
        "On CUDA a mask of shape (..., L, 1) raises.",
        "last dimension must be contiguous; attn_bias; broadcast mask cuda; mask (L, 1) cuda; (*bias): last dimension must be contiguous",
    ),
    "cudnn-mask-one-key": (
        "On CUDA a mask of shape (..., L, 1) in half precision ends in a misaligned address.",
        "misaligned address; CUDA error misaligned; broadcast mask half cuda; cudnn mask",
    ),
    "cudnn-no-sample": (
        "On CUDA in half precision an empty batch gives None.",
        "returns None; empty batch cuda; 'NoneType' object has no attribute; cudnn empty",
    ),
    "efficient-vmap-mask": (
        "On CUDA torch.func.vmap over everything but the mask raises.",
        "vmap; torch.func.vmap; attn_bias: wrong shape; vmap mask cuda; per-sample cuda; ensemble vmap",
    ),
    "efficient-vmap-mask-stride": (
        "On CUDA torch.func.vmap with a mask raises if the number of keys is no multiple of 4.",
        "vmap; attn_bias is not correctly aligned; alignment; vmap stride mask; multiple of 4",
    ),
    "efficient-odd-strides": (
        "On CUDA one query raises: cutlassF: no kernel found to launch.",
        "cutlassF: no kernel found to launch; cutlass; stride alignment; slice query cuda; no kernel found",
    ),
    "nested-slow-conversion-warning": (
        "On CUDA a padded batch in eval mode warns of a slow conversion.",
        "slow conversion; nested_from_padded CUDA kernels only support; warning cuda nested; UserWarning nested cuda",
    ),
    "nested-no-sample-segfault": (
        "On CUDA an empty padded batch crashes the process.",
        "segmentation fault; segfault; crash empty batch; cuda empty batch; SIGSEGV",
    ),
    "native-mha-no-sample": (
        "On CUDA an empty batch raises in eval mode.",
        "empty batch cuda; cannot reshape tensor of 0 elements; batch size 0",
    ),
    # ---- empty inputs, nested inputs
    "native-mha-empty-weights": (
        "For an empty batch in eval mode nn.MultiheadAttention returns None in place of the weights.",
        "empty batch; batch size 0; weights None; need_weights=True None; attn_output_weights None",
    ),
    "empty-mask-view": (
        "A mask raises if the batch, or the sequence of keys, is empty.",
        "empty batch; batch size 0; cannot reshape tensor of 0 elements into shape; no keys; zero length; empty mask; last incomplete batch",
    ),
    "nested-empty-batch": (
        "In eval mode an encoder raises for an empty batch with padding.",
        "stack expects a non-empty TensorList; empty batch; batch size 0; no samples; src_key_padding_mask empty",
    ),
    "nested-no-positions": (
        "In eval mode an encoder raises for sequences of length 0.",
        "index -1 out of range for tensor; select(): index; length 0; zero length sequence; empty sequence; IndexError",
    ),
    "nested-beside-padding": (
        "An encoder raises NotImplementedError for a nested src with a padding mask.",
        "nested tensor input; torch.nested; NotImplementedError; nested src src_key_padding_mask; jagged input; _nested_tensor_from_mask_left_aligned",
    ),
    "nested-sdpa-no-keys": (
        "scaled_dot_product_attention raises for nested tensors whose sequences are empty.",
        "nested tensor sdpa; torch.nested; at least one constituent tensor should have non-zero numel; empty nested; jagged empty",
    ),
    "nested-sdpa-few-keys": (
        "scaled_dot_product_attention raises for nested tensors most of whose sequences are empty.",
        "setStorage: sizes; out of bounds for storage; nested tensor sdpa; torch.nested; jagged",
    ),
    "nested-mha-no-keys": (
        "nn.MultiheadAttention raises for a nested tensor of empty sequences.",
        "nested tensor MultiheadAttention; torch.nested; at least one constituent tensor should have non-zero numel",
    ),
    "spectral-norm-out-projection": (
        "spectral_norm on `out_proj` of nn.MultiheadAttention has no effect: the weight is not divided by its norm.",
        "spectral_norm; torch.nn.utils.spectral_norm; spectral normalization; weight_orig; weight_u; weight_v; Lipschitz; GAN discriminator attention; SN; out_proj; forward_pre_hook not called",
    ),
    "spectral-norm-native-layer": (
        "An encoder layer with spectral_norm computes in eval mode with old weights (before 2.5).",
        "spectral_norm; torch.nn.utils.spectral_norm; spectral normalization; weight_orig; Lipschitz; eval differs from train; fast path ignores hooks",
    ),
    "jagged-holes-no-backend": (
        "scaled_dot_product_attention raises for jagged tensors made by torch.nested.narrow.",
        "torch.nested.narrow; jagged with holes; non-contiguous nested tensor; kv cache nested; No viable backend for scaled_dot_product_attention was found; must be contiguous after transposing; nested_tensor_from_jagged lengths; NJT narrow; driver too old",
    ),
    "jagged-contiguous-gradient": (
        "The backward pass of contiguous() raises for jagged tensors made by torch.nested.narrow.",
        "CloneBackward0 returned an invalid gradient; torch.nested.narrow contiguous backward; jagged narrow training; invalid gradient at index 0; padded to jagged; NJT contiguous",
    ),
    "jagged-padded-gradient": (
        "The backward pass of to_padded_tensor raises for the jagged result of scaled_dot_product_attention.",
        "_padded_dense_to_jagged_forward(): final offset should match total_L value; to_padded_tensor backward; jagged to padded gradient; NJT to_padded_tensor; ragged_idx",
    ),
    "jagged-padded-to-heads": (
        "to_padded_tensor drops positions of the jagged result of scaled_dot_product_attention, silently.",
        "to_padded_tensor truncated; to_padded_tensor wrong size; nested_tensor_from_jagged max_seqlen; jagged to padded loses tokens; NJT to_padded_tensor; output too short; ragged_idx 2",
    ),
    "jagged-sdpa-no-backend": (
        "scaled_dot_product_attention raises for jagged tensors with is_causal=True on CPU.",
        "No viable backend for scaled_dot_product_attention was found; jagged; torch.jagged; nested jagged is_causal; NJT; NestedTensor jagged; nested tensor causal; driver too old",
    ),
    "nested-no-layer-norm": (
        "In eval mode a partly frozen encoder raises NotImplementedError from LayerNorm (before 2.1).",
        "Could not run 'aten::native_layer_norm' with arguments from the 'NestedTensorCPU' backend; NestedTensorCPU; layer norm nested; frozen attention",
    ),
    # ---- other options
    "native-mha-bias": (
        "nn.MultiheadAttention with bias=False raises in eval mode (before 2.1).",
        "bias=False; argument 'qkv_bias' (position 6) must be Tensor, not NoneType; 'NoneType' object has no attribute 'is_cuda'; bias=False eval; no bias",
    ),
    "native-layer-bias": (
        "nn.TransformerEncoderLayer with bias=False raises in eval mode (2.1, 2.2).",
        "bias=False; 'NoneType' object has no attribute 'device'; bias=False eval; no bias encoder layer; AttributeError device",
    ),
    "native-converts-mask-warning": (
        "In eval mode torch warns that it converts the mask to bool (before 2.1).",
        "Converting mask without torch.bool dtype to bool; this will negatively affect performance; Prefer to use a boolean mask directly; mask warning; UserWarning mask",
    ),
    "pruned-out-projection": (
        "A pruned nn.MultiheadAttention computes with the old out_proj after training.",
        "prune; torch.nn.utils.prune; pruning; out_proj hook; forward_pre_hook not called; Trying to backward through the graph a second time; weight_norm; spectral_norm; lora out_proj; parametrization ignored; hooks not called",
    ),
    "pruned-native-layer": (
        "A pruned encoder layer computes in eval mode with old parameters (before 2.5).",
        "prune; torch.nn.utils.prune; pruning; forward hooks not called in eval; hook not called; fast path skips hooks; forward_hook eval",
    ),
    "weight-norm-out-projection": (
        "weight_norm on `out_proj` of nn.MultiheadAttention is not recomputed: training it has no effect.",
        "weight_norm; torch.nn.utils.weight_norm; weight normalization; weight_g; weight_v; out_proj hook; forward_pre_hook not called; weight norm not trained; weight_v grad is None",
    ),
    "weight-norm-native-layer": (
        "An encoder layer with weight_norm computes in eval mode with old parameters (before 2.5).",
        "weight_norm; torch.nn.utils.weight_norm; weight normalization; weight_g; weight_v; eval differs from train; fast path skips hooks; hook not called",
    ),
    "adapter-on-out-projection": (
        "An adapter (LoRA) on `out_proj` of nn.MultiheadAttention has no effect and is not trained.",
        "LoRA; lora out_proj; lora has no effect; adapter ignored; peft; loralib; low-rank adapter; adapter not trained; adapter gets no gradient; grad is None; out_proj replaced; NonDynamicallyQuantizableLinear; replace out_proj; IA3",
    ),
    "hook-on-out-projection": (
        "A forward hook on `out_proj` of nn.MultiheadAttention is never called.",
        "out_proj hook; register_forward_hook; forward hook not called; hook on out_proj; hook MultiheadAttention; activation patching; steering",
    ),
    "adapter-in-native-layer": (
        "Adapters (LoRA) on `linear1` or a norm of an encoder layer are ignored in eval mode.",
        "LoRA; lora linear1; lora TransformerEncoderLayer; adapter ignored in eval; adapter eval; peft eval; replaced norm; custom LayerNorm eval; RMSNorm in TransformerEncoderLayer; replaced linear1; train and eval differ",
    ),
    "hook-in-native-layer": (
        "Forward hooks on parts of an encoder layer are not called in eval mode (before 2.5).",
        "forward hook eval; hook not called in eval; hooks fast path; register_forward_hook self_attn; attention map hook; hook no_grad; captum; activation patching",
    ),
    "override-in-native-layer": (
        "An overridden `_sa_block`, `_ff_block` or `self_attn.forward` is not called in eval mode.",
        "override _sa_block; subclass TransformerEncoderLayer; overridden method ignored; custom self_attn; inherit TransformerEncoderLayer; override forward MultiheadAttention; _ff_block; attention weights from encoder layer; train and eval differ",
    ),
    "out-projection-without-weight": (
        "A module without `weight` in the place of `out_proj` raises AttributeError.",
        "AttributeError; object has no attribute 'weight'; 'LoRA' object has no attribute 'weight'; 'Sequential' object has no attribute 'weight'; out_proj replaced; wrap out_proj",
    ),
    "linear-without-weight": (
        "A module without `weight` in the place of `linear1` raises AttributeError in eval mode.",
        "AttributeError; object has no attribute 'weight'; linear1 replaced; 'Sequential' object has no attribute 'weight'; eval AttributeError; wrap linear1; MoE feed-forward; custom feed-forward",
    ),
    "onnx-empty-row-nan": (
        "A fully masked row is NaN in an exported ONNX model.",
        "onnx; onnx nan; onnx export nan; onnxruntime nan; onnx fully masked; onnx padding nan; onnx softmax -inf; onnx all padded; torch.onnx.export mask",
    ),
    "onnx-empty-row-mean": (
        "A fully masked row is the mean of all values in an exported ONNX model, silently.",
        "onnx; onnx fully masked; onnx mean of values; onnx bool mask; onnx all padded; onnx wrong output; torch.onnx.export bool mask; onnxruntime differs from torch",
    ),
    "onnx-negative-scale": (
        "A negative scale gives NaN in an exported ONNX model.",
        "onnx scale; onnx negative scale; onnx nan; sqrt of scale; torch.onnx.export scale",
    ),
    "onnx-native-raises": (
        "The TorchScript exporter to ONNX refuses modules in eval mode.",
        "onnx; UnsupportedOperatorError; aten::_native_multi_head_attention; aten::_transformer_encoder_layer_fwd; aten::_nested_tensor_from_mask; onnx export transformer; onnx eval; onnx dynamo=False; export TransformerEncoder to onnx",
    ),
    "onnx-groups-raise": (
        "The TorchScript exporter to ONNX refuses enable_gqa=True.",
        "onnx gqa; onnx enable_gqa; onnx grouped query attention; conversion of scaled_dot_product_attention not implemented if enable_gqa is True",
    ),
    "onnx-dimensions-raise": (
        "The newer exporter to ONNX refuses attention that has not four dimensions.",
        "only 4D query, key, and value are supported; onnx 3D; onnx ConversionError; onnx scaled_dot_product_attention",
    ),
    "flex-blocks-ignored": (
        "flex_attention attends to blocks that a hand-made BlockMask leaves out, silently, unless it is compiled.",
        "flex_attention; FlexAttention; BlockMask; from_kv_blocks; kv_num_blocks; kv_indices; block mask ignored; block_mask ignored; block_mask has no effect; eager flex_attention; flex_attention without torch.compile; eager and compiled differ; block sparse; block-sparse mask ignored; full blocks",
    ),
    "flex-hidden-nan": (
        "NaN in a hidden position makes the outputs of flex_attention NaN.",
        "flex_attention nan; FlexAttention nan; nan in padding; masked nan leaks; mask_mod nan; score_mod -inf nan; nan in value; nan in kv cache",
    ),
    "flex-gradient-large-mask": (
        "Gradients of flex_attention are wrong, or NaN, for queries whose keys all get -1e9 or finfo.min.",
        "flex_attention gradient; FlexAttention nan gradient; flex_attention backward nan; score_mod -1e9; score_mod finfo.min; learned bias gradient; bias gradient wrong; masked with a large number",
    ),
    "flex-log-sum-exp-overflow": (
        "The log-sum-exp of flex_attention is -inf where score_mod adds finfo.min.",
        "flex_attention lse; return_lse; logsumexp -inf; AuxRequest; score_mod finfo.min; lse inf; log-sum-exp overflow",
    ),
    "flex-empty-log-sum-exp": (
        "flex_attention returns None in place of the log-sum-exp if there are no queries.",
        "flex_attention lse None; return_lse None; empty batch flex_attention; no queries; 'NoneType' object has no attribute; zero length query",
    ),
    "flex-no-keys": (
        "flex_attention raises IndexError if the keys have length 0.",
        "flex_attention no keys; empty kv cache; max(): Expected reduction dim 3 to have non-zero size; IndexError; zero length key; empty sequence flex_attention",
    ),
    "flex-empty-backward": (
        "The backward pass of flex_attention raises for an empty batch (before 2.11, on CPU).",
        "flex_attention empty batch; cannot reshape tensor of 0 elements; flex_attention backward cpu; no samples",
    ),
    "flex-checkpoint-gradient": (
        "Gradients are garbage, or NaN, if flex_attention with a score_mod is called in a checkpoint (since 2.5).",
        "activation checkpointing; torch.utils.checkpoint; use_reentrant=False; gradient checkpointing; wrong gradient; garbage gradients; nan gradient; loss diverges; learned bias; relative position bias; softcap; score_mod backward; ALiBi; gradients differ from run to run; nondeterministic gradients",
    ),
    "flex-adjusted-far": (
        "A BlockMask that is adjusted to a much shorter length raises for some masks (2.6 to 2.13).",
        "_adjust; block_mask._adjust; adjust block mask; crop block mask; shorter sequence; index out of bounds; IndexError; document mask; sliding window; prefill decode; variable length",
    ),
    "flex-narrow-lists": (
        "BlockMask.from_kv_blocks raises if its lists are narrower than the number of blocks of keys (before 2.14).",
        "from_kv_blocks; kv_num_blocks; kv_indices; full_kv_indices; block sparse; MAX_BLOCKS_IN_COL; seq_lengths; index out of bounds; IndexError; custom block mask; sparse attention",
    ),
    "flex-number-in-index": (
        "A mask_mod or score_mod that reads mask[b, 0, q_idx, kv_idx] raises (2.5 to 2.10).",
        "mask_mod; score_mod; vmap: It looks like you're calling .item() on a Tensor; calling .item(); data dependent; Could not extract specialized integer; Unsupported; UserError; index a mask; constant index; mask[b, 0]; head index 0; padding mask tensor",
    ),
    "flex-adjusted-blocks": (
        "A BlockMask that was adjusted to another length is refused by flex_attention (before 2.13).",
        "_adjust; block_mask._adjust; adjust block mask; block_mask was created for a larger length; block_mask was created for a smaller length; BlockMask other length; crop block mask; sequence length not divisible by 128",
    ),
    "flex-slice-forgets-mask-mod": (
        "A slice of a BlockMask, such as block_mask[1:], hides nothing, unless it is given a mask_mod (before 2.10).",
        "slice block mask; BlockMask getitem; block_mask[0]; block_mask[:, :, index]; indexing a BlockMask; noop_mask; mask_mod lost; mask_mod forgotten; Cannot use mask_mod from a sliced BlockMask; decoding with flex attention; kv cache",
    ),
    "flex-slice-keeps-length": (
        "A BlockMask that is sliced by blocks of queries is refused by flex_attention (2.6 to 2.13).",
        "slice block mask; BlockMask getitem; block_mask[:, :, index]; block_mask was created for; q_len; seq_lengths; decoding with flex attention; kv cache; chunked prefill",
    ),
    "flex-empty-block-mask": (
        "create_block_mask raises for a sequence of length 0 (before 2.10).",
        "create_block_mask empty; zero length; resulted in a negative output size; integer modulo by zero; empty sequence block mask",
    ),
    "flex-mask-mod-past-the-end": (
        "create_block_mask calls mask_mod with positions behind the end of the sequences (2.5).",
        "mask_mod out of bounds; IndexError index out of bounds; create_block_mask index error; out-of-range indices; not a multiple of 128; padding tensor in mask_mod; document mask",
    ),
    "fully-shard-gradients-summed": (
        "A module sharded by fully_shard on CPUs gets gradients that are too large by the number of processes.",
        "fully_shard; FSDP2; FSDP; gloo; CPU training; distributed; distributed training; gradients too large; gradients summed; gradients not averaged; ReduceOp.AVG gloo; reduce_scatter gloo; two processes; data parallel gradients wrong; torchrun cpu",
    ),
    "fsdp-inference-mode-raises": (
        "A module in FullyShardedDataParallel raises under torch.inference_mode on CPUs (before 2.6).",
        "FSDP; FullyShardedDataParallel; inference_mode; Inplace update to inference tensor outside InferenceMode is not allowed; all_gather inference mode; gloo; CPU; distributed; distributed evaluation; validation FSDP",
    ),
    "tensor-parallel-no-bias-raises": (
        "A layer without biases, split by tensor parallelism, raises under torch.inference_mode (before 2.6).",
        "tensor parallel; tensor parallelism; parallelize_module; ColwiseParallel; RowwiseParallel; DTensor; inference_mode; bias=False; aten.matmul.default; Operator aten.matmul.default does not have a sharding strategy registered; NotImplementedError DTensor; distributed inference",
    ),
    "tensor-parallel-native-raises": (
        "An encoder layer split by tensor parallelism raises in eval mode (before 2.5).",
        "tensor parallel eval; tensor parallelism inference; parallelize_module eval; DTensor; got mixed torch.Tensor and DTensor; need to convert all torch.Tensor to DTensor; aten._transformer_encoder_layer_fwd.default; fast path DTensor; distributed inference",
    ),
    "tensor-parallel-nested-raises": (
        "An encoder with padding, split by tensor parallelism, raises in eval mode.",
        "tensor parallel padding; tensor parallelism src_key_padding_mask; parallelize_module TransformerEncoder; DTensor nested tensor; NestedTensorImpl doesn't support sizes; Internal error NestedTensorImpl; distributed inference padding",
    ),
    "quantized-encoder-raises": (
        "A dynamically quantized encoder layer raises AttributeError in eval mode.",
        "quantize_dynamic; dynamic quantization; quantization; quantized; int8; qint8; quantized TransformerEncoder; 'function' object has no attribute 'device'; 'function' object has no attribute 'is_cuda'; 'function' object has no attribute 'requires_grad'; AttributeError quantized; torch.ao.quantization",
    ),
    "quantized-nan": (
        "NaN in one row makes a dynamically quantized module raise, or changes all other rows.",
        "quantize_dynamic nan; dynamic quantization nan; In ChooseQuantizationParams, min should be less than or equal to max; ChooseQuantizationParams; quantized nan; int8 nan; quantized output wrong; quantized accuracy padding",
    ),
}
