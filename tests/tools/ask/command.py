"""`python -m tests.tools ask 'nn.MultiheadAttention(64, 4)(q, k, v, key_padding_mask=mask)'` tells what each release
of torch does with a call: what is specified, or the entries of the ledger that apply, and what helps.

The call is read, never run: as people write it, a line or a whole script, or as a failure prints a case. Masks are the
tensors that the text makes, or are named by --mask. Exit code 0, or 4 for bad input; with --allow, 1 if an entry
applies that is not allowed.
"""

import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from textwrap import wrap

import numpy as np
import torch

from tests.doctor.patterns import hides, is_inverted_causal, is_inverted_padding
from tests.harness.cases.case import AUTOGRAD, Case, DotProduct, FlexAttention, drops, is_padding, masks_of
from tests.harness.cases.dtypes import PRECISIONS
from tests.harness.cases.masks import Given
from tests.harness.command_line import HARNESS_ERROR, BadInput, Parser
from tests.harness.contents.arrays import mask_arrays
from tests.harness.deviations import ledger
from tests.harness.deviations.prediction import CONFORMS, LACKING
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.parsing import parse
from tests.harness.modes.vectors import extension
from tests.harness.path_names import SDPA_FLASH, SDPA_MATH
from tests.harness.releases import NEWEST, OLDEST

from . import table
from .answers import Question, answers, versions_in
from .case import Situation, case_of
from .size import smaller
from .text import read

_REMEDIES = 4  # the most that the text has
HINTS = ("is_causal", "src_is_causal", "tgt_is_causal", "memory_is_causal")
KERNELS = {"math": SDPA_MATH, "flash": SDPA_FLASH}
ABOUT = "What each release of torch does with a call, predicted by the ledger."
EPILOG = """\
The kind of a mask is its form, pattern and values, with colons between them: bool:causal, float:trailing,
float:random:-1e9, float:all:min, float:causal:per_head. docs/ask.md has examples."""


def main(arguments: Sequence[str]) -> int:
    """Answer a question, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        versions = versions_in(options.torch)
        _check_names(options)
        allowed = _allowed(options.allow)
        if options.table:
            _check_table(options, parser.parse_args([]))
        question = None if options.table else _question(options)
        found = [] if question is None else answers(question, versions)
        text = _table(versions, options) if question is None else _told(question, found, options.format)
    except BadInput as error:
        parser.error(str(error))
    except Exception:  # of the suite, which says nothing about torch
        traceback.print_exc()
        return HARNESS_ERROR
    print(text)
    return 0 if allowed is None else _gate(found, allowed)


def _told(question, found, form):
    return _as_json(question, found) if form == "json" else _as_text(question, found)


def _gate(found, allowed):
    """1 if an entry applies that is not allowed, which stderr then names; else 0."""
    others = {entry.id: None for answer in found for entry in answer.entries if entry.id not in allowed}
    if others:
        print(f"not allowed: {', '.join(others)}", file=sys.stderr)
    return int(bool(others))


def _table(versions, options):
    found = table.cells(versions, options.dtype)
    if options.format == "text":
        return "\n".join(table.as_text(found))
    return json.dumps({**_installed(), **table.as_json(found, versions)}, indent=1)


def _parser():
    parser = Parser(prog="python -m tests.tools ask", description=ABOUT, epilog=EPILOG)
    parser.add_argument(
        "call", metavar="CALL", nargs="?", help="Python text, the path of a .py file, or - for the standard input"
    )
    parser.add_argument("--torch", metavar="RANGE", default=f"{OLDEST}:{NEWEST}", help="such as 2.1:2.15, 2.4 or 2.4.1")
    parser.add_argument("--mask", metavar="ARGUMENT=KIND", action="append", default=[], help="attn_mask=bool:causal")
    training = parser.add_mutually_exclusive_group()
    training.add_argument("--eval", dest="training", action="store_const", const=False, help="module.eval()")
    training.add_argument("--train", dest="training", action="store_const", const=True, help="module.train()")
    autograd = parser.add_mutually_exclusive_group()
    for name in ("no_grad", "inference_mode"):
        option = f"--{name.replace('_', '-')}"
        autograd.add_argument(option, dest="autograd", action="store_const", const=name, help=f"within torch.{name}()")
    kinds = (*AUTOGRAD, "parameters")
    autograd.add_argument("--autograd", metavar="KIND", help=f"what requires a gradient: {', '.join(kinds)}")
    parser.add_argument("--mode", help="a way to make or call it, such as compiled, exported, autocast, func_vjp")
    parser.add_argument("--dtype", help=f"of the inputs: {', '.join(PRECISIONS)}")
    parser.add_argument(
        "--no-fast-path",
        dest="fast_path",
        action="store_const",
        const=False,
        help="torch.backends.mha.set_fastpath_enabled(False)",
    )
    parser.add_argument("--kernel", help=f"of scaled_dot_product_attention, if not predicted: {', '.join(KERNELS)}")
    for name, default in (("--batch", 2), ("--length", 5), ("--memory-length", 7)):
        parser.add_argument(name, type=int, help=f"where no tensor tells it; default {default}")
    parser.add_argument("--table", action="store_true", help="each module with each kind of mask, in place of a call")
    parser.add_argument(
        "--allow", metavar="IDS", help="exit with 1 if an entry applies that is not among these, or none"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser


def _allowed(text):
    """The ids that --allow names; None without this option."""
    if text is None:
        return None
    ids = frozenset(text.split(",")) - {"none"}
    if unknown := ids - {entry.id for entry in ledger.ENTRIES}:
        raise BadInput(f"--allow {min(unknown)}: no entry of the ledger, and not none; docs/edge-cases.md lists them")
    return ids


def _check_names(options):
    """Raise BadInput for a name that does not exist."""
    for name, known in (("kernel", KERNELS), ("mode", BY_ID), ("dtype", PRECISIONS)):
        if (value := getattr(options, name)) is not None and value not in known:
            raise BadInput(f"--{name} {value}: not one of {', '.join(known)}")


_OF_TABLE = ("table", "torch", "dtype", "format")


def _check_table(options, default):
    """Raise BadInput for an option that the table does not take."""
    changed = [name for name in vars(options) if getattr(options, name) != getattr(default, name)]
    if other := [name for name in changed if name not in _OF_TABLE]:
        name = "CALL" if other[0] == "call" else f"--{other[0].replace('_', '-')}"
        raise BadInput(f"--table takes no {name}; it takes --torch, --dtype and --format")


def _question(options):
    if options.call is None:
        raise BadInput("CALL is missing: Python text, a file that ends in .py, or - for the standard input")
    known = (*AUTOGRAD, "parameters", None)
    if options.autograd not in known:
        raise BadInput(f"--autograd {options.autograd}: not one of {', '.join(known[:-1])}")
    for name in ("batch", "length", "memory_length"):
        if (size := getattr(options, name)) is not None and size < 0:
            raise BadInput(f"--{name.replace('_', '-')} {size}: less than 0")
    names = ("training", "autograd", "mode", "dtype", "fast_path", "batch", "length", "memory_length")
    situation = Situation(_masks(options.mask), **{name: getattr(options, name) for name in names})
    text, kernel = _text(options.call), KERNELS.get(options.kernel)
    if (case := _as_case(text)) is not None:
        if situation != Situation():
            raise BadInput("a case tells all by itself: it takes no option but --torch, --kernel and --format")
        return Question(case, case, kernel, only=True)
    asked = read(text, options.length or 5, options.training is not False)
    case = case_of(asked, situation)
    return Question(case, smaller(case), kernel, calls=asked.calls)


def _masks(texts):
    masks = {}
    for text in texts:
        name, equals, kind = text.partition("=")
        if not equals:
            raise BadInput(f"--mask {text}: ARGUMENT=KIND is wanted, as in src_key_padding_mask=bool:trailing")
        masks[name] = kind
    return masks


def _text(argument):
    if argument == "-":
        return sys.stdin.read()
    if not argument.endswith(".py") or "(" in argument:
        return argument
    try:
        return Path(argument).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{argument}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{argument}: {error}") from None


def _as_case(text):
    """The case whose repr the text is; None if it is no case's."""
    if not text.startswith(("MultiHead(", "ScaledDotProduct(", "FlexAttention(", "Transformer(")):
        return None
    try:
        return parse(text)
    except BadInput:
        if text.startswith("Transformer("):  # nn.Transformer, perhaps
            return None
        raise


# ---- as text -------------------------------------------------------------------------------------------------------


_AUTOGRAD = {
    "no_grad": "within torch.no_grad()",
    "inference_mode": "within torch.inference_mode()",
    "frozen": "nothing requires a gradient",
    "parameters": "its parameters require a gradient",
    "inputs": "its inputs require a gradient",
    "mask": "its float masks require a gradient",
    "grad": "all require a gradient",
}


def in_words(case: Case) -> str:
    """The call in one line."""
    training = "" if not case.has_training_mode else "in training mode" if case.training else "in eval mode"
    autograd = _AUTOGRAD.get(case.autograd, f"requires a gradient: {case.autograd}")
    mode = "" if case.mode == "eager" else f"mode {case.mode}"
    masks = list(_functions(case) if isinstance(case, FlexAttention) else _masks_in_words(case))
    masks += [f"{name}=True" for name in HINTS if getattr(case, name, None)]
    masks = masks or ["no mask"]
    return ", ".join(filter(None, [case.module, training, autograd, mode, case.dtype, *masks, _sizes(case)]))


def _masks_in_words(case):
    return (f"{name} {_of_mask(mask)}" for name, mask in masks_of(case).items())


_MAKERS = {"create_block_mask": "by create_block_mask", "lists": "of lists of blocks", "adjustment": "by _adjust"}
_MAKERS |= {
    "far_adjustment": "by _adjust, of several blocks",
    "narrow_lists": "of lists of blocks, none as long as the keys",
    "slice_of_queries": "sliced by blocks of queries",
    "slice_of_samples": "sliced by samples",
    "slice_without_mask_mod": "sliced without a mask_mod of its own",
}


def _functions(case):
    """The BlockMask and the score_mod of a call of flex_attention."""
    if case.kept_mask is not None:
        reads = "compares positions" if case.compares_positions else "reads a tensor"
        has_mask_mod = case.has_mask_mod and case.blocks_by != "slice_without_mask_mod"
        yield f"block_mask {_MAKERS[case.blocks_by]}" + (f", whose mask_mod {reads}" if has_mask_mod else "")
    if case.added_mask is not None:
        is_told = case.added_mask.values != "bias" or case.added_mask.pattern != "none"
        yield "score_mod" + (f" that adds {_of_mask(case.added_mask)}" if is_told else "")


def _of_mask(mask):
    held = "as given" if isinstance(mask, Given) and mask.pattern in ("random", "scattered") else mask.pattern
    values = f":{mask.values}" if mask.is_float and not isinstance(mask, Given) and mask.values != "inf" else ""
    return f"{mask.form}:{held}{values}"


def _sizes(case):
    if isinstance(case, DotProduct):
        return f"query {(*case.batch, case.L, case.D)}, {case.S} keys"
    of_decoder = f", target {case.T}" if case.has_decoder else ""
    length = f"{case.L} queries, {case.S} keys" if "L" in case.length_fields else f"source {case.S}{of_decoder}"
    return f"batch {case.N}, {length}"


def notes(question: Question) -> Iterator[str]:
    """What the answer rests on beside the ledger: a sentence each."""
    case = question.case
    is_flex = isinstance(case, FlexAttention)
    yield (
        f"Predicted for a CPU with {extension()} and not run; torch {torch.__version__} is what is installed."
        f" CUDA is not asked: {'it is not measured' if is_flex else 'it was measured with one release, 2.11'}."
    )
    if is_flex and case.mode != "eager":
        yield "Compiled, flex_attention was measured with a few calls in float32."
    if is_flex and masks_of(case):
        yield (
            "What mask_mod and score_mod hide or add is not read from the text: say it by --mask, as in"
            " score_mod=float:all:-1e9. A mask_mod that the text does not have is taken for one that reads a tensor."
        )
    if case.asks_for_causal_mask and case.L != case.S:
        yield (
            "is_causal=True counts from the first key: query i sees the keys 0 to i. Queries at the end of the keys, as"
            " with a KV cache, need torch.nn.attention.bias.causal_lower_right, or a mask."
        )
    for name in filter(partial(_looks_inverted, case), masks_of(case)):
        what = "the first key of every sample" if is_padding(name) else "the past and shows the future"
        polarity = "hides" if case.true_hides else "keeps"
        yield f"{name} looks inverted: it hides {what}. A bool mask of {case.module} {polarity} where it is True."
    if question.calls > 1:
        yield f"The text has {question.calls} calls of an attention; the answer is about the last."
    if len(question.draws) > 1:
        yield f"A mask that is named by its kind can hold many things: {len(question.draws)} of them were tried."
    if case.mode.startswith("compiled_inductor") and not is_flex:
        yield "Before 2.6 the answer is that for backend='aot_eager': there inductor was not measured."
    if drops(case):
        yield "Dropout is random, and left out."


def _looks_inverted(case, name):
    """True if a mask that the text makes is probably not meant so. No release does anything wrong with it."""
    if not isinstance(getattr(case, name), Given):
        return False
    hidden = hides(mask_arrays(case)[name], not case.true_hides)
    return is_inverted_padding(np.atleast_2d(hidden)) if is_padding(name) else is_inverted_causal(hidden)


def _as_text(question, found):
    lines = [*wrap(in_words(question.case), 110, subsequent_indent="    "), ""]
    width = max(len(answer.releases) for answer in found)
    for answer in found:
        lines += _of_answer(answer, width)
    return "\n".join([*lines, "", *(line for note in notes(question) for line in wrap(note, 110))])


def _of_answer(answer, width):
    head, indent = f"{answer.releases:<{width}}  ", " " * (width + 2)
    if answer.status == CONFORMS:
        return [f"{head}as specified"]
    if answer.status == LACKING:
        return [head + (answer.why if answer.is_unknown else f"cannot be called so: {answer.why}")]
    lines = []
    if answer.why:
        lines += _wrapped(f"an error is expected: {answer.why}", indent)
    for entry in answer.entries:
        lines += _of_entry(entry, indent)
    for remedy in answer.remedies[:_REMEDIES]:
        facts = [f"in {remedy.releases}"] * bool(remedy.releases) + [f"cost: {remedy.cost}"] * bool(remedy.cost)
        lines += _wrapped(f"remedy: {remedy.text}" + (f" ({'; '.join(facts)})" if facts else ""), f"{indent}  ")
        lines += [f"{indent}      {line}" for line in remedy.diff]
    if more := len(answer.remedies) - _REMEDIES:
        lines += [f"{indent}  and {more} more: --format json"] * (more > 0)
    if answer.no_remedy:
        lines += _wrapped(f"no remedy: {answer.no_remedy}", f"{indent}  ")
    return [head + lines[0][len(indent) :], *lines[1:]]


def _of_entry(entry, indent):
    share = f", for {entry.shows} of {entry.draws} masks of this kind" if entry.shows < entry.draws else ""
    where = "" if entry.is_anywhere else ", on some CPUs"
    yield from _wrapped(f"{entry.symptom}{share}{where}: {entry.title} ({entry.id})", indent)
    yield from _wrapped(f"instead: {entry.instead}", f"{indent}  ")


def _wrapped(text, indent):
    return wrap(text, 118, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def _as_json(question, found):
    ranges = [
        {"releases": answer.releases, **asdict(answer), "versions": [str(version) for version in answer.versions]}
        for answer in found
    ]
    return json.dumps(
        {"call": in_words(question.case), **_installed(), "ranges": ranges, "notes": list(notes(question))}, indent=2
    )


def _installed():
    return {"device": "cpu", "vectors": extension(), "torch": torch.__version__}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
