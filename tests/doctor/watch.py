"""Watches the calls of attention that a program makes: six classes and three functions of torch are replaced.

The replacements call the originals with the same arguments, and return or raise the same. Calls that are compiled,
traced or transformed pass through unseen, except those of a flex_attention that is compiled by itself.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _python_dispatch

from tests.harness.execution.watching import ENTRY_POINTS, sdpa_backend

from .calls import FLEX, FUNCTIONS, MODULES, SDPA, Made, bound, surroundings
from .compiled import UNSEEN, flex_module, given_options, has_no_attention
from .places import Places

_SAYS_THAT_IT_COMPILES = hasattr(getattr(torch, "compiler", None), "is_compiling")  # since 2.3
_is_compiling = torch.compiler.is_compiling if _SAYS_THAT_IT_COMPILES else lambda: False
_PLAIN = (torch.Tensor, nn.Parameter)


class Watcher:
    """Replaces the functions, and hands over each call that the program makes.

    wants: (place, module, arguments) -> True if the call is to be judged. obstacle: a reason why a call cannot be
    compared that is known when it begins, or "". judge: takes each finished call. fails: takes errors of the doctor.
    """

    def __init__(
        self,
        wants: Callable[[Made], bool],
        obstacle: Callable[[Made], str],
        judge: Callable[[Made], None],
        fails: Callable[[Exception], None],
        passed: Callable[[str], None],
    ) -> None:
        self._wants, self._obstacle, self._judge, self._fails, self._passed = wants, obstacle, judge, fails, passed
        self._places, self._lock = Places(), threading.RLock()
        self._local = threading.local()
        self._originals: list[tuple[Any, str, Callable]] = []
        self._replacements: list[tuple[Any, str, Callable]] = []
        self.is_active = False
        self._compiles = False  # the program has used torch.compile

    def start(self) -> None:
        """Replace the functions of torch."""
        owners: list[tuple[Any, str, Callable]] = [
            (getattr(nn, name), "forward", functools.partial(self._watching, name)) for name in MODULES
        ]
        owners += [(F, name, functools.partial(self._watching, name)) for name in FUNCTIONS if hasattr(F, name)]
        owners += [
            (owner, name, functools.partial(self._noting, path))
            for owner, name, path in ENTRY_POINTS
            if hasattr(owner, name)
        ]
        if (flex := flex_module()) is not None:
            owners += [(flex, FLEX, functools.partial(self._watching, FLEX))]
        owners += [(torch.jit, "script", self._leaving)]
        if hasattr(torch, "compile"):
            owners += [(torch, "compile", self._counting)]
        for owner, name, make in owners:
            original = getattr(owner, name)
            self._originals.append((owner, name, original))
            self._replacements.append((owner, name, make(original)))
        self._set(self._replacements)
        self.is_active = True

    def stop(self) -> None:
        """Put the originals back."""
        self._set(self._originals)
        self.is_active = False

    def _set(self, functions):
        for owner, name, function in functions:
            setattr(owner, name, function)

    @contextmanager
    def _away(self) -> Iterator[None]:
        """Put the originals back while the context is active: some code compares functions, or reads their source."""
        self._set(self._originals)
        try:
            yield
        finally:
            if self.is_active:
                self._set(self._replacements)

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        """Let calls in this thread pass while the context is active."""
        before = self._is_blind
        self._local.is_blind = True
        try:
            yield
        finally:
            self._local.is_blind = before

    @property
    def _is_blind(self):
        return getattr(self._local, "is_blind", False)

    @property
    def _around(self) -> list[Made]:
        """The calls that are running in this thread, the outermost first."""
        if not hasattr(self._local, "around"):
            self._local.around = []
        return self._local.around

    # ---- replacements ----------------------------------------------------------------------------------------------

    def _watching(self, function, original):
        @functools.wraps(original)
        def watched(*args, **kwargs):
            if _is_compiling():
                return original(*args, **kwargs)
            return self._call(function, original, args, kwargs)

        return watched

    def _noting(self, path, original):
        @functools.wraps(original)
        def noting(*args, **kwargs):
            if not _is_compiling():
                self._serve(path)
            return original(*args, **kwargs)

        return noting

    def _leaving(self, original):
        @functools.wraps(original)
        def script(*args, **kwargs):
            with self._away():
                return original(*args, **kwargs)

        return script

    def _counting(self, original):
        @functools.wraps(original)
        def compile(*args, **kwargs):
            model = args[0] if args else kwargs.pop("model", None)
            if model is None:  # a decorator, which calls torch.compile with the function
                return original(*args, **kwargs)
            bound = model if isinstance(model, functools.partial) else functools.partial(model)
            flex = self._original_flex(bound.func)
            compiled = original(flex or model, **kwargs)
            if compiled is (flex or model):  # compilation is disabled
                return model
            self._stay_uncompiled()
            if self._is_blind or (flex is None and has_no_attention(model)):
                return compiled
            if flex is not None:
                judged = self._judging(compiled, given_options(original, kwargs))
                return functools.partial(judged, *bound.args, **bound.keywords) if bound is model else judged
            return self._counting_calls(compiled)

        return compile

    def _stay_uncompiled(self):
        """Keep TorchDynamo from compiling the doctor, where the program's compiled code calls attention."""
        if not self._compiles:
            self._compiles = True
            self._begun, self._ended = (torch._dynamo.disable(method) for method in (self._begun, self._ended))

    def _original_flex(self, function):
        """The flex_attention of torch if the function is that or its replacement, else None."""
        pairs = zip(self._originals, self._replacements, strict=True)
        return next(
            (old for (_, name, old), (*_, new) in pairs if name == FLEX and (function is old or function is new)), None
        )

    def _judging(self, compiled, options):
        """The compiled flex_attention, whose calls are watched. options: those that torch.compile was given."""

        @functools.wraps(compiled)
        def judged(*args, **kwargs):
            if _is_compiling():
                return compiled(*args, **kwargs)
            return self._call(FLEX, compiled, args, kwargs, options)

        return judged

    def _counting_calls(self, compiled):
        """The compiled function or model, whose calls are counted."""
        if not isinstance(compiled, nn.Module):
            return self._counted(compiled)
        compiled.forward = self._counted(compiled.forward)
        return compiled

    def _counted(self, compiled):
        @functools.wraps(compiled)
        def counted(*args, **kwargs):
            if not (_is_compiling() or self._is_blind):
                self._passed(UNSEEN)
            with nullcontext() if _SAYS_THAT_IT_COMPILES else self._away():  # or it would compile the replacements
                return compiled(*args, **kwargs)

        return counted

    def _serve(self, path):
        for made in self._around:
            made.served.append(path)

    # ---- a call ----------------------------------------------------------------------------------------------------

    def _call(self, function, original, args, kwargs, compiled=None):
        if self._is_blind or not self.is_active:
            return original(*args, **kwargs)
        if reason := _unseeable(args, kwargs):
            is_tracing = self._compiles and reason.endswith("FakeTensor")  # a compiler calls, not the program
            if not is_tracing and (not self._around or not self._around[-1].holds):
                self._passed(f"{function} {reason}")
            with self._away() if reason.startswith("with a tensor") else self._unseen():
                return original(*args, **kwargs)
        made = self._begun(function, original, args, kwargs, compiled)
        if made is None:
            with self._unseen():
                return original(*args, **kwargs)
        self._around.append(made)
        try:
            with nullcontext() if compiled is None else self._unseen():  # inductor calls what it compiles
                made.result = original(*args, **kwargs)
        except Exception as error:
            made.error = error
            raise
        finally:
            self._around.pop()
            if made.error is not None or made.result is not None:
                self._ended(made)
        return made.result

    def _begun(self, function, original, args, kwargs, compiled):
        """The call that begins; None if it is not to be judged."""
        try:
            with self._unseen():
                arguments = bound(function, original, args, kwargs)
                module = args[0] if function in MODULES else None
                place, owner = self._places.of_call(module)
                made = Made(function, module, owner, arguments, place, None, not self._around, compiled=compiled)
                made.around = surroundings(made.device)
                if not self._wants(made):
                    return None
                made.versions = {name: _version(tensor) for name, tensor in made.tensors.items()}
                made.holds = not self._obstacle(made)
                if function == SDPA:
                    path = sdpa_backend(made.around.autocast, *args, **kwargs)
                    made.served.append(path)
                    self._serve(path)
                return made
        except TypeError:  # wrong arguments: the call itself raises
            return None
        except Exception as error:
            self._fails(error)
            return None

    def _ended(self, made):
        outer = self._around[-1] if self._around else None
        if outer is not None and outer.holds:
            outer.inner.append(made)
            return
        try:
            with self._unseen(), self._lock, _without_modes(), np.errstate(all="ignore"):
                self._judge(made)
        except Exception as error:
            self._fails(error)


def unwritten(made: Made) -> bool:
    """True if no tensor of the call was written to since it began."""
    return all(_version(tensor) == made.versions.get(name) for name, tensor in made.tensors.items())


def _version(tensor):
    return None if tensor.is_inference() else tensor._version


def _unseeable(args, kwargs):
    """The reason why a call cannot be seen; empty if it can."""
    if torch._C._get_tracing_state() is not None:
        return "inside a trace"
    for value in (*args, *kwargs.values()):
        if not isinstance(value, torch.Tensor):
            continue
        if type(value) not in _PLAIN:
            return f"with a tensor of type {type(value).__name__}"
        if _is_wrapped(value):
            return "inside a transformation of torch.func"
        if value.is_nested:
            return "with a nested tensor"
        if value.device.type == "meta":
            return "on the meta device"
        if value.layout is not torch.strided or value.is_quantized:
            return f"with a tensor of layout {value.layout}"
    return ""


def _is_wrapped(tensor):
    functorch = getattr(torch._C, "_functorch", None)
    return functorch is not None and getattr(functorch, "is_functorch_wrapped_tensor", lambda _: False)(tensor)


@contextmanager
def _without_modes():
    """Keep modes of the program, which count or change operations, from seeing the doctor's."""
    disable = getattr(_python_dispatch, "_disable_current_modes", None)
    with torch._C.DisableTorchFunction(), torch.no_grad():
        if disable is None:
            yield
        else:
            with disable():
                yield
