"""Documented refusals: calls that torch says it does not take, so that an error is the right outcome.

A refusal is no deviation. It is predicted all the same: an error is a failure if the release takes the call.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

from ..cases.case import mixes_types, mixes_types_of, source_of
from ..contents.packing import JAGGED
from ..execution.runner import Observation
from ..judgement.comparison import ERROR, WARNING, Mismatch
from ..modes.modes import BY_ID, WHOLE_GRAPHS, computed_in
from ..path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, NATIVE_MHA, SDPA_FLASH, SDPA_NONE
from ..releases import since
from . import proposed
from .autocast import raises_on_the_native_layer, raises_when_packed
from .call import Call
from .compiled import asks_in_a_graph, packs_fake_tensors
from .distributed import blocks_of_raising_layers, has_nothing_to_average, raises_before_the_call
from .empty_inputs import left_by_later_layers, views_nothing
from .facts import (
    drops_the_mask,
    is_cast,
    is_served_by_no_kernel,
    mask_dtype,
)
from .flex import is_compiled, lacks_mask_mod, learns_captured, learns_inputs
from .flex_block_masks import makes_no_block_mask, reads_by_number
from .functorch import (
    block_without_tangent,
    meets_no_second_derivative,
    meets_what_takes_no_tangent,
    moves_an_expanded_tensor,
    packs_under_a_transform,
)
from .fused_cpu import is_short_of_dimensions
from .given_nested import has_no_backend, is_nested_sdpa, meets_no_native_path
from .kernels import kernel
from .native import blocks_without_a_bias, misses_the_layers_biases
from .nested_tensors import looks_at_no_position, memory_is_too_short, packs_no_sample, packs_nothing, unpacks_too_late
from .paths import (
    asks_for_alignment,
    asks_whether_causal,
    looks_for_missing_biases,
    path_of_each_block,
    takes_nested_path,
    takes_nested_path_on_fake_tensors,
)
from .quantized import reads_methods
from .reach import Look, altered, applying_through
from .replaced_parts import misses_weights
from .vmap import block_with_a_hidden_gradient


@dataclass(frozen=True)
class Refusal:
    """A kind of call that torch refuses, with the error that it raises."""

    id: str
    source: str  # statement of torch that documents the refusal
    applies: Callable[[Call], bool]
    error: tuple[str, str]  # regular expressions of the type's name and of the message
    warning: str | None = None  # regular expression of a warning that comes with the error

    def through(self, look: Look) -> "Refusal":
        """The refusal that sees each call by `look`."""
        return replace(self, applies=applying_through(self.applies, look))

    def mismatches(self, observation: Observation) -> Iterator[Mismatch]:
        """The differences between an observation and this refusal."""
        expected, got = ": ".join(self.error), observation.error
        if got is None or not re.fullmatch(self.error[0], got[0]) or not re.search(self.error[1], got[1]):
            yield Mismatch("error", expected, got and ": ".join(got), kind=ERROR)
        elif self.warning and not any(re.search(self.warning, message) for message in observation.warnings):
            yield Mismatch("warning", self.warning, None, kind=WARNING)


def refusal(call: Call) -> Refusal | None:
    """The refusal that the call must meet; None if the release takes the call."""
    if not call.case.attends or raises_before_the_call(call):
        return None
    return next((entry for entry in REFUSALS if entry.applies(call.met)), None)


def _refused_alone(call):
    """True if only one kernel is allowed to serve the call, and does not take it.

    On a CPU this is predicted; on other devices torch's own choice of kernel is believed.
    """
    return _flash_alone(call) if call.release.device_type == "cpu" else SDPA_NONE in call.served


def _flash_alone(call):
    """True if only the CPU's fused kernel is allowed to serve the call, and does not take it."""
    case, release = call.case, call.release
    if case.mode != "sdpa_flash" or case.has_parameters or not since(release, "2.1"):
        return False
    if is_served_by_no_kernel(case, release):
        return False
    if since(release, "2.3") and is_short_of_dimensions(call):  # raises earlier: see the ledger
        return False
    return kernel(case, release, "sdpa") != SDPA_FLASH


def _cannot_be_batched(call):
    """True if vmap meets the CPU's fused kernel, which has no batching rule before 2.3."""
    case, release = call.case, call.release
    if not _lacks_a_batching_rule(call):
        return False
    if not case.has_parameters:
        return kernel(case, release, "sdpa") == SDPA_FLASH
    if looks_for_missing_biases(case, release):  # raises earlier: see the ledger
        return False
    viewing, unbatched = views_nothing(call), _unbatched(call)
    before = takewhile(lambda block: block not in viewing, case.blocks)  # viewing an empty mask raises
    return any(block in unbatched for block in before)


def _lacks_a_batching_rule(call):
    return BY_ID[call.case.mode].family == "vmap" and since(call.release, "2.1") and not since(call.release, "2.3")


def _unbatched(call):
    """The blocks of a module that the fused kernel would serve, but that vmap cannot map."""
    case, release = call.case, call.release
    if not case.has_parameters or not _lacks_a_batching_rule(call):
        return ()
    return tuple(block for block in call.blocks(BY_SDPA) if _is_plain(case, release, block))


def _is_plain(case, release, block):
    """True if an attention has keys and queries, and no mask other than is_causal."""
    is_masked = any(getattr(case, name) is not None for name in case.mask_names(block))
    if is_masked and not drops_the_mask(case, release, block):
        return False
    return case.number_of_queries(block) > 0 and case.number_of_keys(block) + case.appended_keys > 0


def _looks_at_values(call):
    """True if a stack reads values of a mask: is it causal, does padding come last, how long are the samples?"""
    case = call.case
    family = BY_ID[case.mode].family
    if family not in ("vmap", "exported", "fake") or not case.has_layers:
        return False
    if _looks_at_padding(call):
        return True
    if case.mode == "vmap_of_sequences":  # masks are not mapped
        return False
    if family == "fake" and (packs_no_sample(call) or looks_at_no_position(call)):
        return False  # the encoder packs before it checks
    return _looks_for_causality(call)


def _looks_at_padding(call):
    """True if an encoder checks if padding comes last, or computes the lengths of the samples."""
    case, release = call.case, call.release
    family = BY_ID[case.mode].family
    cannot_look = family == "vmap" or (case.mode == "exported_dynamic" and not since(release, "2.10"))
    if cannot_look and asks_for_alignment(case, release):
        return True
    if family == "exported" and since(release, "2.5"):
        return False
    return _packs(case, release) and case.N * case.S > 0  # packing nothing is another error: see the ledger


def _looks_for_causality(call, only=None):
    """True if a stack checks if a mask is causal, and needs the answer.

    only: the source of keys ("src" or "tgt") of the stack in question; None for any stack.
    """
    case, release = call.case, call.release
    asking = [block for block in case.blocks if asks_whether_causal(case, release, block)]
    if case.mode in WHOLE_GRAPHS and since(release, "2.11"):  # an answer that is not used may stay open
        asking = [block for block in asking if path_of_each_block(case, release)[block] != NATIVE_LAYER]
    looking = set(map(source_of, asking))
    if only is not None:
        return only in looking
    lacks_a_bias = not since(release, "2.3") and looks_for_missing_biases(case, release)
    raising = (*views_nothing(call), *filter(None, [block_with_a_hidden_gradient(call)]))
    raises_before = "src" not in looking and (lacks_a_bias or "src" in map(source_of, raising))
    return bool(looking) and not raises_before


def _packs(case, release):
    """True if nn.TransformerEncoder packs the batch, as far as it sees in this mode."""
    family = BY_ID[case.mode].family
    if family == "vmap":
        return takes_nested_path(case, release)
    if family == "exported" and since(release, "2.4"):  # only the layers see that they are exported
        case = replace(case, mode="eager")
    return takes_nested_path_on_fake_tensors(case, release)


def _meets_another_dtype(call):
    """True if an attention gets a float mask of another dtype than its queries, and nothing raises earlier.

    Merged with a bool mask or another float mask, a mask has the dtype of their sum. The ledger has the earlier errors.
    """
    case = call.case
    blocks = tuple(dict.fromkeys(case.order))
    refusing = [block for block in blocks if _refuses_the_dtype(call, block)]
    if not refusing or misses_the_layers_biases(call) or packs_no_sample(call) or looks_at_no_position(call):
        return False
    if (packs_nothing(call) and since(call.release, "2.2")) or unpacks_too_late(call) or packs_under_a_transform(call):
        return False
    if raises_when_packed(call) and since(call.release, "2.2"):
        return False
    if packs_fake_tensors(call) and not since(call.release, "2.5"):
        return False
    if misses_weights(call) or reads_methods(call):
        return False
    if moves_an_expanded_tensor(call) or _looks_before(call, refusing[0]):
        return False
    is_native = refusing[0] in call.blocks(NATIVE_MHA) + call.blocks(NATIVE_LAYER)  # then later layers refuse
    raising = {*views_nothing(call, at_first=not is_native), *blocks_without_a_bias(call)}
    raising |= {
        block_without_tangent(call, refusing),
        *_unbatched(call),
        *({block_with_a_hidden_gradient(call)} - {*refusing}),
    }
    raising |= blocks_of_raising_layers(call, refusing[0])
    if raises_on_the_native_layer(call) and since(call.release, "2.2") and not since(call.release, "2.6"):
        raising |= set(call.blocks(NATIVE_LAYER))
    if memory_is_too_short(call):
        raising |= {block for block in blocks if source_of(block) == "memory"}
    before = takewhile(lambda block: block not in refusing, blocks)
    return refusing[0] not in raising and raising.isdisjoint(before)


def _looks_before(call, block):
    """True if a stack reads values of a mask, or breaks a graph, before it reaches the block."""
    case, release = call.case, call.release
    if not (_looks_at_values(call) or _breaks_the_graph(call)):
        return False
    is_encoder = case.module == "Transformer" and source_of(block) == "src"
    if case.mode in WHOLE_GRAPHS:
        looks = takes_nested_path(case, release) or _looks_for_causality(call, only="src" if is_encoder else None)
        return looks or _warns_before(call, block)
    # the decoder checks before its layers run
    return not is_encoder or _looks_at_padding(call) or _looks_for_causality(call, only="src")


def _warns_before(call, block):
    """True if masks of two types are given to the block or to an earlier one."""
    case = call.case
    blocks = case.blocks
    pairs = [case.mask_names(other) for other in blocks[: blocks.index(block) + 1]]
    return any(len(names) > 1 and mixes_types_of(case, *names) for names in pairs)


def _refuses_the_dtype(call, block):
    case, release, dtype = call.case, call.release, mask_dtype(call.case, block)
    if dtype in (None, computed_in(case)) or not (case.has_parameters or case.attn_mask.is_float):
        return False
    if block in call.blocks(EXPLICIT) and BY_ID[case.mode].family == "vmap":  # the sum with the mask is multiplied
        return dtype == "float64" and 0 not in (
            case.samples,
            case.number_of_queries(block),
            case.number_of_keys(block) + case.appended_keys,
        )
    if block in call.blocks(EXPLICIT):
        return since(release, "2.1")
    if is_cast(case) and not since(release, "2.2"):  # raises earlier: see the ledger
        return False
    is_served = block in call.blocks(BY_SDPA) or left_by_later_layers(call, _native(call, block))
    if not is_served or not since(release, "2.0") or drops_the_mask(case, release, block):
        return False
    return not (dtype == "float32" and since(release, "2.4"))


def _native(call, block):
    return {block} & {*call.blocks(NATIVE_LAYER), *call.blocks(NATIVE_MHA)}


def _groups_nested_heads(call):
    """True if scaled_dot_product_attention gets nested tensors and groups of heads."""
    case = call.case
    if not is_nested_sdpa(call, "nested_strided", *JAGGED) or has_no_backend(call):
        return False
    return case.kv_heads not in (None, case.heads)


def _breaks_the_graph(call):
    """True if a mode that takes only whole graphs meets a nested tensor, a check of values, or a warning."""
    case, release = call.case, call.release
    if case.mode == "exported_strict":
        return takes_nested_path(case, release) or _looks_at_values(call)
    if case.mode != "compiled_fullgraph" or not case.has_parameters:
        return False
    if asks_in_a_graph(call) or (packs_fake_tensors(call) and not since(release, "2.5")):
        return False  # a deviation of some releases: see the ledger
    warns = mixes_types(case) and since(release, "2.5")  # before 2.5 TorchDynamo does not look into torch's modules
    return warns or takes_nested_path(case, release) or _looks_for_causality(call)


def _has_unsupported_features(call):
    """True if the features of queries or values are none of those that flex_attention takes before 2.7."""
    case = call.case
    if not case.is_flex or since(call.release, "2.7") or makes_no_block_mask(call):
        return False
    is_wider = case.Dv > case.D and not since(call.release, "2.6")
    return is_wider or not {case.D, case.Dv} <= {2**power for power in range(1, 11)}


def _captures_what_learns(call):
    """True if score_mod reads a tensor that requires a gradient, which is refused before 2.6."""
    case = call.case
    if not case.is_flex or since(call.release, "2.6") or makes_no_block_mask(call):
        return False
    return learns_captured(case) and not reads_by_number(call)  # the trace fails before


def _differentiates_flex(call):
    """True if an input of flex_attention requires a gradient on a CPU, which is refused since 2.11."""
    is_refused = call.case.is_flex and since(call.release, "2.11") and call.release.device_type == "cpu"
    return is_refused and learns_inputs(call.case) and not makes_no_block_mask(call)


_REFUSALS = (
    Refusal(  # first: the wrapper raises before the module is called
        id="distributed-without-gradient",
        source='"DistributedDataParallel is not needed when a module doesn\'t have any parameter that requires a"'
        ' gradient."',
        applies=has_nothing_to_average,
        error=("RuntimeError", "DistributedDataParallel is not needed when a module doesn't have any parameter"),
    ),
    Refusal(
        id="nested-off-fast-path",
        source="the pages of the modules: nested tensors are for their fast path, and masks keep a call off it",
        applies=meets_no_native_path,
        error=(
            # LayerNorm raises first if norm_first=True, and CUDA raises if sequences are empty
            "AssertionError|ValueError|NotImplementedError|AcceleratorError",
            "does not support NestedTensor outside of its fast path|NestedTensor layer_norm requires weight and bias"
            "|Could not run 'aten::native_layer_norm'|aten.layer_norm.default|CUDA error: invalid argument",
        ),
    ),
    Refusal(
        id="strided-mask",
        source="the messages of scaled_dot_product_attention, which documents nothing else about nested tensors",
        applies=lambda call: (
            is_nested_sdpa(call, "nested_strided") and (call.case.attn_mask is not None or call.case.is_causal)
        ),
        error=("RuntimeError", "not supported when (an explicit attn_mask is set|is_causal=True)"),
    ),
    Refusal(
        id="jagged-mask",
        source="the message of scaled_dot_product_attention",
        applies=lambda call: is_nested_sdpa(call, *JAGGED, "jagged_batch") and call.case.attn_mask is not None,
        error=("ValueError", "Masks are not yet supported"),
    ),
    Refusal(
        id="mask-of-another-dtype",
        source="the page of scaled_dot_product_attention: a float mask of the same type as query, key and value",
        applies=_meets_another_dtype,
        error=(
            "(Torch)?RuntimeError|BackendCompilerFailed",
            "Expected attn_mask dtype to be bool or (float or )?to match query dtype|Input dtypes must be the same"
            "|expected scalar type (Double but found Float|Float but found Double)",
        ),
    ),
    Refusal(
        id="nested-groups",
        source="the page of scaled_dot_product_attention: enable_gqa does not support nested tensors",
        applies=_groups_nested_heads,
        error=(
            "RuntimeError",
            "NestedTensorImpl doesn't support sizes|batch dimensions must have the same|not implemented for jagged",
        ),
    ),
    Refusal(
        id="graph-break",
        source="a strict export, and torch.compile(fullgraph=True), raise where TorchDynamo would break the graph",
        applies=_breaks_the_graph,
        error=(
            "Unsupported|UserError",
            "_nested_tensor_from_mask|[Dd]ata[- ]dependent|Failed to trace builtin operator|builtin: bool"
            "|_warnings.warn",
        ),
    ),
    Refusal(
        id="data-dependent",
        source="data-dependent control flow is among the limitations of torch.func.vmap, fake tensors and torch.export",
        applies=_looks_at_values,
        error=(
            "RuntimeError|NotImplementedError|GuardOnDataDependentSymNode|DataDependentOutputException|Unsupported.*"
            "|NameError",
            "data-dependent|Batching rule not implemented for aten::|Could not run 'aten::stack'|_local_scalar_dense"
            "|NestedTensorImpl doesn't support sizes|strided nested tensors are not supported"
            "|_nested_tensor_from_mask_left_aligned|aten.equal.default|free variable 'sizes'|meta converter nyi",
        ),
    ),
    Refusal(
        id="no-batching-rule",
        source="torch.func.vmap: not all operators have a batching rule, and the error asks to file an issue",
        applies=_cannot_be_batched,
        error=("RuntimeError", "Batching rule not implemented for aten::_scaled_dot_product_flash_attention"),
    ),
    Refusal(
        id="flash-alone",
        source="the page of scaled_dot_product_attention promises warnings that say why a fused kernel cannot serve",
        applies=_refused_alone,
        error=("RuntimeError", "No available kernel"),
        warning="Flash attention kernel not used because",
    ),
    Refusal(
        id="no-second-derivative",
        source="pytorch/pytorch#116350: that fused kernels have no second derivative is a known gap, says a maintainer",
        applies=meets_no_second_derivative,
        error=(
            "RuntimeError",
            r"derivative for aten::_scaled_dot_product_(flash|efficient|cudnn)_attention(_for_cpu)?_backward is not",
        ),
    ),
    Refusal(
        id="no-forward-derivative",
        source="torch.func.jvp: not all operators have a forward-mode derivative, and the error asks to file an issue",
        applies=meets_what_takes_no_tangent,
        error=(
            "NotImplementedError",
            r"Trying to use forward AD with (_scaled_dot_product_(flash|efficient|cudnn)_attention(_for_cpu)?"
            r"|aten::_(native_multi_head_attention|transformer_encoder_layer_fwd)|_nested_tensor_from_mask) that",
        ),
    ),
    Refusal(
        id="flex-features",
        source='flex_attention before 2.7: "NYI: Currently non power of 2 embedding dimension are not supported"',
        applies=_has_unsupported_features,
        error=("ValueError", "NYI: Currently (non power of 2|value) embedding dimension"),
    ),
    Refusal(
        id="flex-captured-gradients",
        source='flex_attention before 2.6: "Captured buffers that require grad are not yet supported."',
        applies=_captures_what_learns,
        error=("AssertionError", "Captured buffers that require grad are not yet supported"),
    ),
    Refusal(
        id="flex-compiled-log-sum-exp",
        source='inductor: "torch.compile on CPU only supports inference and `return_lse` is not supported yet."',
        applies=lambda call: call.case.is_flex and is_compiled(call) and bool(call.case.lse),
        error=(".*", "torch.compile on CPU only supports inference and `return_lse` is not supported yet"),
    ),
    Refusal(
        id="flex-compiled-float64",
        source="inductor: `torch.float` , `torch.float16` and `torch.bfloat16` are supported in FlexAttention for CPU",
        applies=lambda call: call.case.is_flex and is_compiled(call) and call.case.dtype == "float64",
        error=(".*", "`torch.float`.*are supported in FlexAttention for CPU"),
    ),
    Refusal(
        id="flex-gradients",
        source='flex_attention since 2.11: "FlexAttention does not support backward on CPU"',
        applies=_differentiates_flex,
        error=("NotImplementedError", "FlexAttention does not support backward on CPU"),
    ),
    Refusal(
        id="flex-sliced-mask-mod",
        source='flex_attention since 2.10: "Cannot use mask_mod from a sliced BlockMask."',
        applies=lambda call: lacks_mask_mod(call) and since(call.release, "2.10") and not makes_no_block_mask(call),
        error=("RuntimeError", "Cannot use mask_mod from a sliced BlockMask"),
    ),
)

REFUSALS: tuple[Refusal, ...] = tuple(altered(refusal, proposed.REACHES) for refusal in _REFUSALS)
