"""Runs a case on the installed torch, as a user would, and returns an Observation."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import nn

from ..cases.case import LEARNED, Case, MultiHead, ScaledDotProduct, drops, masks_of
from ..contents.arrays import is_trained, parameters
from ..modes.mode import settle
from ..modes.modes import BY_ID, EAGER, MATH, is_closed_by_export
from ..modes.pairs import run_in_both
from ..modes.processes import Died, run_alone
from ..modes.vectors import run_with
from ..modes.written import is_written
from ..path_names import AS_WRITTEN, SDPA_FLASH, SDPA_MATH
from . import dangers, flex, rewriting, square_mask
from .both import of_both
from .call import Typed, arguments, constructor, lay_out, options, to_numpy
from .differentiation import Results, differentiate, held, move
from .implementation import Adopted
from .side_effects import RANDOM, noting_settings, remember
from .skeleton import module_of
from .watching import Seen, watching


@dataclass(frozen=True)
class Observation:
    """The results and side effects of one call."""

    # {"output": array, "weights": array}, in the shapes of torch
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    # {output name: dtype in torch}
    dtypes: dict[str, str] = field(default_factory=dict)
    # {name: array in the shape of arrays.py; None if autograd found no dependence}; empty if nothing is differentiated
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    # {output name: tangent}, in modes with forward-mode derivatives
    tangents: dict[str, np.ndarray] = field(default_factory=dict)
    error: tuple[str, str] | None = None  # (type name, message)
    warnings: tuple[str, ...] = ()  # messages, in order
    served: tuple[str, ...] = ()  # the path of each attention, in order (watching.PATHS)
    kept: tuple[np.ndarray, ...] = ()  # for each dropout, in order: a bool array, True in elements that it kept
    mutated: tuple[str, ...] = ()  # names of the arguments and parameters that the call changed
    lent: tuple[str, ...] = ()  # names of those whose memory a result shares
    settings: tuple[str, ...] = ()  # names of the settings of torch and of the module that the call changed
    attached: tuple[str, ...] = ()  # names of the results that require a gradient though autograd recorded nothing
    seconds: float = 0.0  # CPU time of the call
    # {output name: type of its device}, for calls that choose the device
    devices: dict[str, str] = field(default_factory=dict)
    # in modes of second order: the gradients of sum(gradients * directions), as in `gradients`
    second_gradients: dict[str, np.ndarray | None] = field(default_factory=dict)


def observe(case: Case, device: str = "cpu", adopted: Adopted | None = None, dares: bool = False) -> Observation:
    """Run the case. Errors of torch become part of the observation; errors of the harness propagate.

    adopted: the implementation to call in place of torch's. dares: run calls that may crash the process, too
    (dangers.py).
    """
    if not case.attends:
        return _observe_square_mask(case)
    if vectors := BY_ID[case.mode].vectors:
        return _observe_with_vectors(vectors, case, device, adopted)
    if BY_ID[case.mode].is_shared and not adopted:
        return _observe_in_both(case, device, dares)
    return _observe_here(case, device, adopted, dares)


def _observe_here(case, device, adopted=None, dares=False):
    mode, seen, settings = BY_ID[case.mode], Seen(), list[str]()
    if not mode.is_watched:  # paths and dropout are those of the eager call
        eager = observe(_as_eager(case), device, adopted, dares)
        if is_withheld(eager):
            return eager
        seen.served += map(_decomposed, eager.served) if mode.decomposes else eager.served
        seen.kept += eager.kept
    rewritten_before = rewriting.number()
    started = time.process_time()
    tensors = arguments(case, device)
    call, weights = (_prepare_adopted if adopted else _prepare)(case, _parameters(case, device), adopted)
    if mode.is_forward:
        move(case, tensors | weights)
    memory = remember(tensors, {} if mode.is_shared else weights)  # wrappers write parameters, to make them equal
    kept = partial(_kept_by_another, case) if adopted else lambda _: tuple(seen.kept)
    with warnings.catch_warnings(record=True) as caught, watching(seen, case, dares), _fast_path(case):
        warnings.simplefilter("always")
        made = partial(_call, case, call, tensors, device, settings, is_torch=not adopted)
        results = _results(case, made, tensors | weights, kept)
    if is_written(case):
        is_rewritten = rewriting.is_rewritten(call, rewritten_before)
        seen.served[:] = rewriting.served(case, seen.served) if is_rewritten else [AS_WRITTEN]
    seconds = time.process_time() - started
    return Observation(
        outputs=_as_arrays(results.outputs) if results.error is None else {},
        dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in results.outputs.items()},
        gradients=held(case, results.gradients),
        tangents=_as_arrays(results.tangents),
        error=results.error,
        warnings=tuple(str(warning.message) for warning in caught),
        served=tuple(seen.served),
        kept=results.kept,
        mutated=memory.changed(),
        lent=memory.lent(results.outputs),
        settings=_changed_settings(settings, case, results.error),
        attached=() if _is_recorded(case, tensors | weights) else _attached(results.outputs),
        seconds=seconds,
        second_gradients=held(case, results.second_gradients),
    )


def _observe_with_vectors(vectors, case, device, adopted):
    """Run the case eagerly in a process with other vector instructions."""
    try:
        observation = run_with(vectors, observe, replace(case, mode=EAGER.id), device, adopted)
        return replace(observation, seconds=0.0)  # it was spent in another process
    except Died as died:
        return Observation(error=(type(died).__name__, str(died)))


def _observe_in_both(case, device, dares):
    """Run the case in two processes that share it. That they differ in a result or a gradient is an error."""
    settle()  # once, here, and not in each pair of processes
    try:
        one, other = run_in_both(_observe_here, case, device, None, dares)
    except Died as died:
        return Observation(error=(type(died).__name__, str(died)))
    return of_both(one, other)


def _results(case, call, tensors, kept):
    """The results of a prepared call, and of its derivatives by these tensors.

    kept: function from the outputs to the elements that each dropout kept.
    """
    results = Results()
    try:
        results.outputs = call()
        # before the backward pass, which may recompute the forward pass (checkpoint)
        results.kept = kept(results.outputs)
        differentiate(case, results, tensors)
    except Exception as raised:  # whatever torch raises is an outcome, judged like any other
        results.error = _told(raised)
    return results


def _told(raised):
    """The type and text of an error. It is not kept: its frames hold what the call had entered, such as a checkpoint.

    A warning that was given while an error was on its way turns it into a SystemError; the error behind it is told.
    Wrappers of torch.distributed give such warnings in some runs.
    """
    error = raised.__cause__ if isinstance(raised, SystemError) and raised.__cause__ else raised
    return type(error).__name__, str(error)


def _observe_square_mask(case):
    """Run the text of the call. A mask on the meta device has no contents and is observed as zeros."""
    started, mask, error = time.process_time(), None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mask = square_mask.made(case)
        except Exception as raised:  # whatever torch raises is an outcome, judged like any other
            error = (type(raised).__name__, str(raised))
    told = {"error": error, "warnings": tuple(str(warning.message) for warning in caught)}
    told["seconds"] = time.process_time() - started
    if mask is None:
        return Observation(**told)
    array = np.zeros(mask.shape) if mask.is_meta else to_numpy(mask)
    dtype = str(mask.dtype).removeprefix("torch.")
    return Observation({"output": array}, {"output": dtype}, devices={"output": mask.device.type}, **told)


@lru_cache(maxsize=8)
def observe_apart(case: Case, device: str = "cpu", adopted: Adopted | None = None) -> Observation:
    """Run the case in a separate process, even if it may crash. A crash is observed as the error Died."""
    served = observe(case, device, adopted).served
    try:
        observation = run_alone(_outcome, case, device, adopted)
    except Died as error:
        observation = Observation(error=(type(error).__name__, str(error)))
    return replace(observation, served=served)


def _outcome(case, device, adopted):
    try:
        return observe(case, device, adopted, dares=True)
    except Exception as raised:  # the device has become unusable
        return Observation(error=(type(raised).__name__, str(raised)))


def is_withheld(observation: Observation) -> bool:
    """True if the call was skipped because it may crash the process (dangers.py)."""
    return observation.error is not None and observation.error[0] == dangers.Withheld.__name__


def _as_arrays(tensors):
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}


def _decomposed(path):
    """The path after decomposition of kernels: the flash kernel of the CPU becomes the formula of the math backend."""
    return SDPA_MATH if path == SDPA_FLASH else path


def _as_eager(case):
    """The eager case with the memory layouts and the paths that the mode of the case leads to."""
    if case.has_fast_path and is_closed_by_export(case, Version(torch.__version__)):
        case = replace(case, fast_path=False)
    mode = BY_ID[case.mode]
    layouts = {"layout": "contiguous"} if mode.maps("sequences") else {}
    if mode.maps("masks"):
        layout = "contiguous" if mode.maps("sequences") else "stepped"
        layouts |= {name: replace(mask, layout=layout) for name, mask in masks_of(case).items()}
    eager = "sdpa_math" if mode.family == "vmap" and mode.within == MATH else EAGER.id
    return replace(case, mode=eager, autograd=_seen_by(mode, case), **layouts)


def _seen_by(mode, case):
    """The `autograd` of the eager case: the tensors of which torch sees in this mode that they require a gradient."""
    if mode.maps("sequences") and case.autograd in ("inputs", "one_input"):
        return "frozen"
    if mode.maps("masks"):
        return {"mask": "frozen", "grad": "parameters", LEARNED: "parameters"}.get(case.autograd, case.autograd)
    return case.autograd


def _parameters(case, device):
    return {
        name: nn.Parameter(lay_out(array, "contiguous", case.dtype).to(device), requires_grad=is_trained(case, name))
        for name, array in parameters(case).items()
    }


# ---- the call ------------------------------------------------------------------------------------------------------


def _prepare(case, weights, _=None):
    """(callable that takes the tensors, {name: parameter}). Warnings of constructors are ignored."""
    mode = BY_ID[case.mode]
    if case.is_flex:
        torch._dynamo.reset()  # every call of flex_attention is compiled, and each kept graph makes the next one slower
        function, _ = _made(mode, flex.module().flex_attention, {})
        return partial(_call_flex, case, function), weights
    if isinstance(case, ScaledDotProduct):
        function, _ = _made(mode, _scaled_dot_product_attention, {})
        return partial(_call_scaled_dot_product, case, function), weights
    if case.functional:
        function, _ = _made(mode, F.multi_head_attention_forward, {})
        function = partial(function, **_functional_weights(case, weights))
        return partial(_call_multi_head, case, function), weights
    weights = next((parameters for _, parameters in _shared(mode)), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = module_of(case, weights)
    function, weights = (module, weights) if mode is EAGER else _made(mode, module, weights)
    return partial(_call_multi_head if isinstance(case, MultiHead) else _call_transformer, case, function), weights


# A stack: for each active made_once a list, empty or with its one artifact, (callable, {name: parameter}).
_turns: list[list[tuple[Callable, dict[str, nn.Parameter]]]] = []


@contextmanager
def made_once() -> Iterator[None]:
    """Inside this context, the artifact that a mode makes for the first call is reused by later calls.

    An artifact is, for example, a compiled graph or a trace. All calls have equal parameters.
    """
    _turns.append([])
    try:
        yield
    finally:
        _turns.pop()


def _shared(mode):
    """The list of at most one artifact that calls in this mode share. Appending to it shares an artifact."""
    return _turns[-1] if _turns and mode.serves else []


def _made(mode, what, weights):
    """(callable, {name: parameter}): the artifact of the mode for a module or function, new or reused."""
    shared = _shared(mode)
    if not shared:
        shared.append(mode.prepare(what, weights))
    return shared[0]


def _prepare_adopted(case, weights, adopted):
    """`_prepare` for an adopted implementation. An error of its constructor is raised when the callable is called."""
    if isinstance(case, ScaledDotProduct):
        return partial(_call_scaled_dot_product, case, adopted.factory), weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = adopted.module(constructor(case), weights, case.training, is_trained(case, next(iter(weights))))
        except Exception as raised:  # judged as an error of the call
            return partial(_raise, raised), weights
    return partial(_call_multi_head if isinstance(case, MultiHead) else _call_transformer, case, module), weights


def _raise(error, _):
    raise error


def _call(case, call, tensors, device, settings, is_torch):
    """{result name: tensor}. Adds to `settings` the names of those that the call changes."""
    module = next((given for given in call.args if is_torch and isinstance(given, nn.Module)), None)
    context = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.get(case.autograd, nullcontext)
    if drops(case):
        _seed(case.seed, device)
    with context(), BY_ID[case.mode].context(device), noting_settings(settings, module, draws=_may_draw(case)):
        result = call(tensors)
    if is_torch and BY_ID[case.mode].called == "module":
        results = _unpacked(case, result)
    else:  # other callables leave out results that are None
        results = result if isinstance(result, tuple) else (result,)
    return {name: tensor for name, tensor in zip(case.result_names, results, strict=False) if tensor is not None}


def _seed(seed, device):
    """Seed the generator of the device. On a CPU, torch.manual_seed also records each call for absent GPUs."""
    (torch.default_generator if device == "cpu" else torch).manual_seed(seed)


def _unpacked(case, result):
    """The results as a caller takes them: a pair, or one tensor. Raises as Python does if there are more or fewer."""
    if case.returns_pair:
        output, other = result
        return output, other
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"the result is not a tensor but a {type(result).__name__}")
    return (result,)


def _kept_by_another(case, outputs):
    """Elements that an adopted implementation keeps under dropout: the nonzero weights, if it returns weights."""
    return ((outputs["weights"] != 0).detach().cpu().numpy(),) if drops(case) and "weights" in outputs else ()


def _scaled_dot_product_attention(*given, **options):
    return F.scaled_dot_product_attention(*given, **options)  # looked up at each call, as watching.py replaces it


def _call_scaled_dot_product(case, function, tensors):
    query, key, value, *mask = tensors.values()
    return function(query, key, value, **dict(zip(masks_of(case), mask, strict=True)), **options(case))


def _call_flex(case, function, tensors):
    """The output, and the log-sum-exp if it is asked for."""
    query, key, value, *_ = tensors.values()
    its_options = {name: its.value if isinstance(its, Typed) else its for name, its in options(case).items()}
    result = function(query, key, value, **flex.defined(case, tensors), **its_options)
    return (result[0], result[1].lse) if case.lse == "return_aux" else result


def _call_multi_head(case, function, tensors):
    query = tensors["query"]
    key = tensors.get("key", query)
    others = {name: tensor for name, tensor in tensors.items() if name not in ("query", "key", "value")}
    return function(query, key, tensors.get("value", key), **others, **options(case))


def _functional_weights(case, weights):
    optional = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v")
    separate = {name: weights[name] for name in weights if name[1:] == "_proj_weight"}
    return {
        "embed_dim_to_check": case.E,
        "num_heads": case.num_heads,
        "add_zero_attn": case.add_zero_attn,
        "dropout_p": case.dropout,
        "out_proj_weight": weights["out_proj.weight"],
        "out_proj_bias": weights.get("out_proj.bias"),
        "use_separate_proj_weight": bool(separate),
        **{name: weights.get(name) for name in optional},
        **separate,
    }


def _call_transformer(case, module, tensors):
    sequences = [tensors[name] for name in ("src", "tgt", "memory") if name in tensors]
    rename = {"src_mask": "mask"} if case.module == "TransformerEncoder" else {}
    given = {rename.get(name, name): tensors[name] for name in masks_of(case)}
    return module(*sequences, **given, **options(case))


@contextmanager
def _fast_path(case):
    switch = getattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled", None)
    if switch is None or case.fast_path:
        yield
        return
    switch(False)
    try:
        yield
    finally:
        switch(True)


def _changed_settings(settings, case, error):
    """The changed settings, without what TorchDynamo draws as it explains an error for the first time (2.12)."""
    draws = error is not None and BY_ID[case.mode].compiles
    return tuple(its for its in settings if not (draws and its == RANDOM))


def _may_draw(case):
    """True if the call may draw random numbers: TorchScript's derivative of dropout does even if nothing is dropped."""
    return drops(case) or (case.training and BY_ID[case.mode].family in ("scripted", "traced"))


def _is_recorded(case, tensors):
    """True if autograd records the call: not under no_grad, say."""
    is_recording = case.autograd not in ("no_grad", "inference_mode")
    return is_recording and any(tensor.requires_grad for tensor in tensors.values())


def _attached(outputs):
    return tuple(name for name, tensor in outputs.items() if tensor.requires_grad)
