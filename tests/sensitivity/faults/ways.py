"""Faults in one way to run a call: low precision, one backend, vmap, compilation, nested tensors."""

from dataclasses import replace
from importlib import import_module
from unittest import mock

import torch

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import (
    Fault,
    Patch,
    drop_mask,
    edit_attention,
    edit_module,
    float_mask,
    masked,
    put,
    sdpa,
)
from tests.sensitivity.literals import (
    ATTENTION,
    BIAS,
    CAUSAL,
    CROSS,
    DECODER_LAYER,
    ENCODER_LAYER,
    FINITE,
    FLOAT_PADDING,
    HIDING,
    PADDING,
    SDPA,
    inferring,
    weighing,
)

_CHECK = "is_batched = _mha_shape_check("
_SDPA = replace(SDPA, attn_mask=HIDING)
_WRITTEN = replace(inferring(SDPA), mode="written", attn_mask=replace(HIDING, form="float"), scale=2.0)
_X = torch.arange(6.0).reshape(1, 3, 2)


def _is_mapped_gradient(call):
    """True if torch.func differentiates under vmap."""
    of_torch = torch._C._functorch
    return of_torch.is_gradtrackingtensor(call.query) and of_torch.is_batchedtensor(of_torch.get_unwrapped(call.query))


def _in_sdpa(id, title, when, shows, before=drop_mask):
    return Fault(id, title, sdpa(before=before, when=lambda call: masked(call) and when(call)), shows)


def _module():
    return torch.nn.MultiheadAttention(2, 1, batch_first=True).eval()


def _differentiated_once(tensor):
    tensor = tensor.clone()
    if tensor.requires_grad:
        tensor.register_hook(torch.Tensor.detach)
    return tensor


def _masks(options):
    return {name: value for name, value in options.items() if "mask" in name and torch.is_tensor(value)}


def _keeping_its_first_masks(module):
    def faulty(program):
        run, first = module(program), {}

        def call(*given, **options):
            first.setdefault("masks", {name: mask.clone() for name, mask in _masks(options).items()})
            return run(*given, **{**options, **first["masks"]})

        return call

    return faulty


def _second_of_two_exported_calls():
    later, earlier = (torch.ones(3, 3).triu(1) > 0, torch.ones(3, 3).tril(-1) > 0)
    with torch.no_grad():
        program = torch.export.export(_module(), (_X, _X, _X), {"attn_mask": later}).module()
        return [program(_X, _X, _X, attn_mask=mask)[0] for mask in (later, earlier)][1]


def _hiding_only_up_to_its_first_length(compile):
    def faulty(module, **how):
        function, lengths = compile(module, **how), {}

        def call(*given, **options):
            changed = dict(options)
            for name, mask in _masks(options).items():
                S = lengths.setdefault(name, mask.shape[-1] if mask.ndim else 0)
                if isinstance(module, torch.nn.Module) and mask.ndim and mask.shape[-1] > S:
                    changed[name] = torch.cat([mask[..., :S], torch.zeros_like(mask[..., S:])], -1)
            return function(*given, **changed)

        return call

    return faulty


def _called_within(context):
    """A torch.compile whose artifacts are called, and thus compiled, within context()."""

    def make(compile):
        def faulty(*what, **how):
            function = compile(*what, **how)

            def call(*given, **options):
                with context():
                    return function(*given, **options)

            return call

        return faulty

    return make


def _rewriting(**wrong):
    """A context in which inductor rewrites attention to scaled_dot_product_attention with wrong arguments."""

    def context():
        rules = import_module("torch._inductor.fx_passes.fuse_attention")
        right = rules._scaled_dot_product_attention
        return mock.patch.object(
            rules, "_scaled_dot_product_attention", lambda *given, **options: right(*given, **options | wrong)
        )

    return context


def _matching_any_permutation():
    """A context in which inductor takes any permutation for that of its pattern, as before 2.15."""
    matcher = import_module("torch._inductor.pattern_matcher")
    return mock.patch.object(matcher.CanonicalDims, "_match", lambda dims, node, context: matcher.Match(context, dims))


def _longer_of_two_compiled_calls():
    compiled = torch.compile(_module(), backend="eager")
    with torch.no_grad():
        return [compiled(x, x, x, attn_mask=torch.ones(*[x.shape[1]] * 2).triu(1) > 0)[0] for x in (_X[:, :2], _X)][1]


def _in_attention(id, title, condition, shows, argument="attn_mask"):
    statement = f"{argument} = None if {condition} else {argument}\n    "

    def when(call):
        return getattr(call, argument) is not None and eval(condition, {"torch": torch}, vars(call))

    return Fault(id, title, edit_attention(_CHECK, statement + _CHECK, when), shows)


def _is_mapped(call):
    return torch._C._functorch.is_batchedtensor(call.query)


def _differentiates_forwards(call):
    return torch.autograd.forward_ad._current_level >= 0


def _is_traced_without_effect(call):
    mask = call.attn_mask
    return torch.jit.is_tracing() and bool((mask if mask.dtype is torch.bool else mask == 0).all())


def _is_nested(layout):
    """A condition: the call has nested tensors of this layout whose sequences are ragged, not a dimension before them."""
    return lambda call: call.query.is_nested and call.query.layout is layout and not _is_of_ragged_batch(call)


def _is_of_ragged_batch(call):
    return call.query.is_nested and call.query.ndim > 3 and getattr(call.query, "_ragged_idx", 2) == 1


def _without_last_key(nested):
    """The nested tensor without the last key of each sample; a sample with one key keeps it."""
    # Jagged tensors are made with the sequence before the heads.
    is_turned = nested.layout is torch.jagged and nested.ndim > 3
    turned, axis = (nested.transpose(1, 2), -3) if is_turned else (nested, -2)
    samples = [sample.narrow(axis, 0, sample.shape[axis] - (sample.shape[axis] > 1)) for sample in turned.unbind()]
    shorter = torch.nested.as_nested_tensor(samples, layout=nested.layout)
    return shorter.transpose(1, 2) if is_turned else shorter


def _lose_last_key(call):
    put("key", _without_last_key)(call)
    put("value", _without_last_key)(call)


FAULTS = (
    _in_sdpa(
        "sdpa-lost-of-one-tensor",
        "SDPA ignores the mask if query and key are one tensor",
        lambda call: call.query is call.key,
        replace(inferring(_SDPA), mode="one_tensor", S=3),
    ),
    _in_sdpa(
        "sdpa-lost-in-gradients-of-samples",
        "SDPA ignores the mask if torch.func differentiates for each sample, under vmap",
        _is_mapped_gradient,
        replace(_SDPA, mode="per_sample_gradients"),
    ),
    _in_sdpa(
        "sdpa-lost-in-bfloat16",
        "SDPA ignores the mask in bfloat16",
        lambda call: call.query.dtype is torch.bfloat16,
        replace(_SDPA, dtype="bfloat16"),
    ),
    _in_sdpa(
        "sdpa-bias-halved-in-float16",
        "SDPA adds half of a float mask in float16",
        lambda call: float_mask(call) and call.query.dtype is torch.float16,
        replace(SDPA, attn_mask=BIAS, dtype="float16"),
        before=put("attn_mask", lambda mask: mask / 2),
    ),
    _in_sdpa(
        "sdpa-lowest-hides-in-bfloat16",
        "SDPA takes finfo.min for -inf in bfloat16",
        lambda call: float_mask(call) and call.query.dtype is torch.bfloat16,
        replace(SDPA, attn_mask=Mask("float", "row", "min"), dtype="bfloat16"),
        before=put("attn_mask", lambda mask: mask.masked_fill(mask < -1e38, -torch.inf)),
    ),
    _in_attention(
        "attention-lost-in-float16",
        "F.multi_head_attention_forward ignores attn_mask in float16",
        "query.dtype == torch.float16",
        replace(CROSS, attn_mask=HIDING, dtype="float16"),
    ),
    _in_attention(
        "padding-lost-in-low-precision",
        "F.multi_head_attention_forward ignores key_padding_mask in float16 and bfloat16",
        "query.element_size() == 2",
        replace(CROSS, key_padding_mask=PADDING, dtype="bfloat16"),
        "key_padding_mask",
    ),
    _in_sdpa(
        "sdpa-lost-on-math-alone",
        "SDPA ignores the mask if the fused kernel is switched off",
        lambda call: not torch.backends.cuda.flash_sdp_enabled(),
        replace(_SDPA, mode="sdpa_math"),
    ),
    _in_sdpa(
        "sdpa-lost-on-flash-alone",
        "SDPA ignores the mask if the math backend is switched off",
        lambda call: not torch.backends.cuda.math_sdp_enabled(),
        replace(_SDPA, mode="sdpa_flash"),
    ),
    _in_sdpa(
        "sdpa-lost-under-vmap",
        "SDPA ignores the mask under vmap",
        _is_mapped,
        replace(_SDPA, mode="vmap", autograd="no_grad"),
    ),
    _in_attention(
        "padding-lost-under-vmap",
        "F.multi_head_attention_forward ignores key_padding_mask under vmap",
        "torch._C._functorch.is_batchedtensor(query)",
        replace(CROSS, key_padding_mask=PADDING, mode="vmap", autograd="no_grad"),
        "key_padding_mask",
    ),
    _in_sdpa(
        "mask-detached-under-vmap",
        "under vmap, SDPA gives a float mask that is not mapped no gradient",
        lambda call: _is_mapped(call) and float_mask(call) and not torch._C._functorch.is_batchedtensor(call.attn_mask),
        replace(SDPA, attn_mask=BIAS, mode="vmap_of_sequences"),
        put("attn_mask", torch.Tensor.detach),
    ),
    _in_sdpa(
        "mask-learned-under-vmap",
        "under vmap, SDPA gives a mask (L, S) its gradient, where torch raises",
        lambda call: _is_mapped(call) and float_mask(call) and (call.query.ndim, call.attn_mask.ndim) == (4, 2),
        replace(SDPA, attn_mask=BIAS, mode="vmap"),
        put("attn_mask", lambda mask: mask[None]),  # which the fused kernel does not take
    ),
    Fault(
        "queries-detached-under-vmap",
        "under vmap, F.multi_head_attention_forward gives queries no gradient",
        edit_attention(
            _CHECK, f"query = query.detach() if torch._C._functorch.is_batchedtensor(query) else query\n    {_CHECK}"
        ),
        replace(CROSS, mode="vmap"),
    ),
    _in_sdpa(
        "sdpa-lost-under-autocast",
        "SDPA ignores the mask under autocast",
        lambda call: torch.is_autocast_enabled("cpu"),
        replace(_SDPA, dtype="float32", mode="autocast"),
    ),
    _in_attention(
        "padding-lost-under-autocast",
        "F.multi_head_attention_forward ignores key_padding_mask under autocast",
        'torch.is_autocast_enabled("cpu")',
        replace(CROSS, key_padding_mask=PADDING, dtype="float32", mode="autocast"),
        "key_padding_mask",
    ),
    _in_sdpa(
        "sdpa-lost-under-vjp",
        "SDPA ignores the mask under torch.func differentiation",
        lambda call: torch._C._functorch.is_gradtrackingtensor(call.query),
        replace(CROSS, attn_mask=HIDING, mode="func_vjp"),
    ),
    Fault(
        "batch-first-lost-in-a-copy",
        "a copy of MultiheadAttention takes the sequence first",
        edit_module(
            "MultiheadAttention",
            "super().__setstate__(state)",
            'state["batch_first"] = False\n    Module.__setstate__(self, state)',
            "__setstate__",
        ),
        replace(CROSS, key_padding_mask=PADDING, mode="materialised"),
    ),
    Fault(
        "encoder-layer-mask-lost-when-compiled",
        "TransformerEncoderLayer ignores its mask when it is compiled",
        edit_module(
            "TransformerEncoderLayer",
            "x = src\n",
            "x = src\n    src_mask = None if torch.compiler.is_compiling() else src_mask\n",
        ),
        replace(ENCODER_LAYER, src_mask=HIDING, mode="compiled"),
    ),
    Fault(
        "decoder-layer-memory-padding-lost-when-exported",
        "TransformerDecoderLayer ignores the padding of the memory when it is exported",
        edit_module(
            "TransformerDecoderLayer",
            "x = tgt\n",
            "x = tgt\n    memory_key_padding_mask = None if torch.compiler.is_exporting() else memory_key_padding_mask\n",
        ),
        replace(DECODER_LAYER, memory_key_padding_mask=PADDING, mode="exported", autograd="no_grad"),
    ),
    Fault(
        "hinted-mask-lost-when-exported",
        "F.multi_head_attention_forward ignores a causal mask with a hint when it is exported",
        edit_attention(
            _CHECK,
            "attn_mask, is_causal = (None, False) if torch.compiler.is_exporting() and is_causal else"
            f" (attn_mask, is_causal)\n    {_CHECK}",
            when=lambda call: call.is_causal and torch.compiler.is_exporting(),
        ),
        replace(CROSS, attn_mask=CAUSAL, is_causal=True, mode="exported", autograd="no_grad"),
    ),
    Fault(
        "padding-beside-weights-lost-when-compiled",
        "F.multi_head_attention_forward ignores a float padding mask when it is compiled with weights",
        edit_attention(
            _CHECK,
            "if need_weights and key_padding_mask is not None and torch.compiler.is_compiling():\n"
            "        key_padding_mask = None if key_padding_mask.is_floating_point() else key_padding_mask\n"
            f"    {_CHECK}",
        ),
        replace(weighing(CROSS), key_padding_mask=FLOAT_PADDING, mode="compiled"),
    ),
    _in_sdpa(
        "sdpa-lost-under-autocast-to-float16",
        "SDPA ignores the mask under autocast to float16",
        lambda call: torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.float16,
        replace(_SDPA, dtype="float32", mode="autocast_float16"),
    ),
    _in_sdpa(
        "sdpa-lost-in-a-trace",
        "SDPA ignores the mask while it is traced",
        lambda call: torch.jit.is_tracing(),
        replace(CROSS, attn_mask=HIDING, need_weights=False, mode="traced"),
    ),
    _in_sdpa(
        "sdpa-example-hides-nothing",
        "SDPA leaves the mask out of a trace if the mask of the example hides nothing",
        _is_traced_without_effect,
        replace(CROSS, attn_mask=HIDING, need_weights=False, mode="traced"),
    ),
    Fault(
        "weights-of-one-head-on-fake-tensors",
        "F.multi_head_attention_forward does not average the weights of fake tensors",
        edit_attention("if average_attn_weights:", "if average_attn_weights and type(query).__name__ != 'FakeTensor':"),
        replace(CROSS, attn_mask=HIDING, need_weights=True, mode="fake"),
    ),
    _in_sdpa(
        "sdpa-lost-under-jvp",
        "SDPA ignores the mask under forward-mode differentiation",
        _differentiates_forwards,
        replace(CROSS, attn_mask=HIDING, mode="func_jvp_math"),
    ),
    _in_sdpa(
        "sdpa-mask-does-not-move",
        "SDPA drops the tangent of a float mask under forward-mode differentiation",
        lambda call: float_mask(call) and _differentiates_forwards(call),
        replace(SDPA, attn_mask=FINITE, mode="func_jvp_math"),
        before=put("attn_mask", torch.Tensor.detach),
    ),
    Fault(
        "weights-do-not-move",
        "F.multi_head_attention_forward drops the tangent of the weights under forward-mode differentiation",
        edit_attention(
            "attn_output = torch.bmm(attn_output_weights, v)",
            "if torch.autograd.forward_ad._current_level >= 0:\n"
            "            attn_output_weights = attn_output_weights.detach()\n"
            "        attn_output = torch.bmm(attn_output_weights, v)",
            when=lambda call: torch.autograd.forward_ad._current_level >= 0,
        ),
        replace(weighing(CROSS), attn_mask=HIDING, mode="func_jvp"),
    ),
    Fault(
        "weights-differentiate-once",
        "F.multi_head_attention_forward drops its weights from second derivatives",
        edit_attention(
            "attn_output_weights = softmax(attn_output_weights, dim=-1)",
            "attn_output_weights = softmax(attn_output_weights, dim=-1); "
            "attn_output_weights.requires_grad and attn_output_weights.register_hook(torch.Tensor.detach)",
        ),
        replace(weighing(CROSS), attn_mask=HIDING, mode="second_derivatives", autograd="grad"),
    ),
    Fault(
        "sdpa-differentiates-once",
        "SDPA with a mask drops the gradient of its query from second derivatives",
        sdpa(before=put("query", _differentiated_once), when=masked),
        replace(SDPA, attn_mask=HIDING, mode="second_derivatives_math", autograd="grad"),
    ),
    Fault(
        "nested-last-key-lost",
        "SDPA ignores the last key of each sample of a nested tensor",
        sdpa(before=_lose_last_key, when=_is_nested(torch.strided)),
        inferring(replace(SDPA, mode="nested_strided")),
    ),
    Fault(
        "jagged-last-key-lost",
        "SDPA ignores the last key of each sample of a jagged tensor",
        sdpa(before=_lose_last_key, when=_is_nested(torch.jagged)),
        inferring(replace(SDPA, mode="nested_jagged")),
    ),
    Fault(
        "jagged-batch-loses-is-causal",
        "SDPA ignores is_causal if jagged tensors differ in the dimensions before the sequences",
        sdpa(
            before=put("is_causal", lambda hint: False), when=lambda call: call.is_causal and _is_of_ragged_batch(call)
        ),
        inferring(replace(SDPA, mode="jagged_batch", is_causal=True)),
    ),
    Fault(
        "padding-beside-nested-ignored",
        "MultiheadAttention ignores a padding mask beside a nested tensor, instead of refusing both",
        edit_module(
            "MultiheadAttention",
            'why_not_fast_path = ""\n',
            'why_not_fast_path = ""\n    key_padding_mask = None if query.is_nested else key_padding_mask\n',
        ),
        replace(weighing(inferring(ATTENTION)), mode="nested_beside_padding", key_padding_mask=PADDING),
    ),
    Fault(
        "encoder-layer-compiled-for-its-first-mask",
        "TransformerEncoderLayer, compiled, keeps the mask of its first call",
        edit_module(
            "TransformerEncoderLayer",
            "x = src\n",
            "x = src\n"
            "    if torch.compiler.is_dynamo_compiling() and src_mask is not None:\n"
            "        if getattr(self, 'first_mask', None) is None:\n"
            "            self.first_mask = src_mask\n"
            "        src_mask = self.first_mask\n",
        ),
        replace(ENCODER_LAYER, src_mask=HIDING, mode="compiled"),
    ),
    Fault(
        "norms-of-any-eps",
        "TransformerEncoderLayer takes its fast path, which has one eps, though its norms have two",
        edit_module("TransformerEncoderLayer", "elif self.norm1.eps != self.norm2.eps:", "elif False:"),
        replace(inferring(ENCODER_LAYER), mode="norms_apart"),
    ),
    Fault(
        "query-as-value-taken-for-self-attention",
        "MultiheadAttention takes its query for the key, too, if it is the value",
        edit_module(
            "MultiheadAttention",
            'why_not_fast_path = ""\n',
            'why_not_fast_path = ""\n    key = query if value is query else key\n',
        ),
        replace(inferring(ATTENTION), mode="first_as_last", attention="distinct"),
    ),
    Fault(
        "target-as-memory-unmasked",
        "TransformerDecoderLayer ignores memory_mask if its memory is its target",
        edit_module(
            "TransformerDecoderLayer",
            "x = tgt\n",
            "x = tgt\n    memory_mask = None if memory is tgt else memory_mask\n",
        ),
        replace(inferring(DECODER_LAYER), mode="first_as_last", S=3, memory_mask=HIDING),
    ),
    Fault(
        "exported-program-keeps-its-first-mask",
        "a program made by torch.export keeps the masks of its first call",
        Patch(torch.export.ExportedProgram, "module", _keeping_its_first_masks),
        _second_of_two_exported_calls,
    ),
    Fault(
        "compiled-for-a-length",
        "a compiled module sees hidden keys beyond the length that it was compiled for",
        Patch(torch, "compile", _hiding_only_up_to_its_first_length),
        _longer_of_two_compiled_calls,
    ),
    Fault(
        "rewritten-attention-loses-mask",
        "inductor rewrites attention that is written by hand to SDPA without its mask",
        Patch(torch, "compile", _called_within(_rewriting(attn_mask=None))),
        _WRITTEN,
    ),
    Fault(
        "rewritten-attention-loses-scale",
        "inductor rewrites attention that is written by hand to SDPA without its scale",
        Patch(torch, "compile", _called_within(_rewriting(scale=None))),
        _WRITTEN,
    ),
    Fault(
        "rewritten-attention-takes-any-permutation",
        "inductor rewrites attention that is written by hand to SDPA, whatever the permutation of its key",
        Patch(torch, "compile", _called_within(_matching_any_permutation)),
        replace(_WRITTEN, mode="written_key_permuted", batch=(1, 4)),
    ),
)
