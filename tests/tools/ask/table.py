"""The table of what works: what ask says of each module with each kind of mask, in training, in eval mode and without
autograd.

Each cell stands for calls as people write them. Where dropout chooses the path, the cell has the entries with and
without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

from packaging.version import Version

from tests.harness.deviations.prediction import CONFORMS, LACKING
from tests.harness.execution.another_release import AnotherRelease

from .answers import Question, Said, in_words, said_of
from .case import Situation, case_of
from .size import smaller
from .text import read


@dataclass(frozen=True)
class Row:
    """A module or function. text: its call, with places for the masks and for the dropout of the constructor."""

    text: str
    attention: str = ""  # the argument that takes an attention mask
    padding: tuple[str, ...] = ()  # those that take the padding
    hint: str = ""  # the argument that says that the attention mask is causal
    across: str = ""  # the argument that takes the attention mask of the memory
    autograd: str = "parameters"  # of an ordinary call outside of torch.no_grad()


_ENCODER_LAYER = "nn.TransformerEncoderLayer(64, 4{dropout}, batch_first=True)"
_DECODER_LAYER = "nn.TransformerDecoderLayer(64, 4{dropout}, batch_first=True)"
_OF_DECODER = ("tgt_key_padding_mask", "memory_key_padding_mask")

MODULES = {
    "MultiheadAttention": Row(
        "nn.MultiheadAttention(64, 4{dropout}, batch_first=True)(x, x, x{masks})",
        "attn_mask",
        ("key_padding_mask",),
        "is_causal",
    ),
    "MultiheadAttention, need_weights=False": Row(
        "nn.MultiheadAttention(64, 4{dropout}, batch_first=True)(x, x, x{masks}, need_weights=False)",
        "attn_mask",
        ("key_padding_mask",),
        "is_causal",
    ),
    "TransformerEncoderLayer": Row(f"{_ENCODER_LAYER}(x{{masks}})", "src_mask", ("src_key_padding_mask",), "is_causal"),
    "TransformerEncoder": Row(
        f"nn.TransformerEncoder({_ENCODER_LAYER}, 2)(x{{masks}})", "mask", ("src_key_padding_mask",), "is_causal"
    ),
    "TransformerDecoderLayer": Row(
        f"{_DECODER_LAYER}(x, memory{{masks}})", "tgt_mask", _OF_DECODER, "tgt_is_causal", "memory_mask"
    ),
    "TransformerDecoder": Row(
        f"nn.TransformerDecoder({_DECODER_LAYER}, 2)(x, memory{{masks}})",
        *("tgt_mask", _OF_DECODER, "tgt_is_causal", "memory_mask"),
    ),
    "Transformer": Row(
        "nn.Transformer(64, 4, 2, 2{dropout}, batch_first=True)(src, tgt{masks})",
        *("tgt_mask", ("src_key_padding_mask", *_OF_DECODER), "tgt_is_causal", "memory_mask"),
    ),
    "scaled_dot_product_attention": Row(
        "F.scaled_dot_product_attention(q, k, v{masks})", "attn_mask", hint="is_causal", autograd="inputs"
    ),
}


@dataclass(frozen=True)
class Masks:
    """A kind of mask. attention, padding, across: the kind for --mask in each place (see Row); empty if not given."""

    words: str
    attention: str = ""
    padding: str = ""
    across: str = ""
    hint: bool = False


KINDS = {
    "none": Masks("no mask"),
    "bool-causal": Masks("causal, bool", "bool:causal"),
    "float-causal": Masks("causal, float: 0 and -inf, as generate_square_subsequent_mask makes it", "float:causal"),
    "causal-hint": Masks("causal, float, with is_causal=True", "float:causal", hint=True),
    "bool-window": Masks("sliding window, bool", "bool:window"),
    "float-window": Masks("sliding window, float: 0 and -inf", "float:window"),
    "float-1e9": Masks("causal, float, with -1e9 in place of -inf", "float:causal:-1e9"),
    "float-min": Masks("causal, float, with finfo.min in place of -inf", "float:causal:min"),
    "bias": Masks("float bias that hides no key", "float:all:finite"),
    "causal-bias": Masks("causal float bias, as ALiBi has it", "float:causal:bias"),
    "per-head": Masks("bool, 3-D: one for each sample and head", "bool:diagonal:per_head"),
    "empty-row": Masks("bool, hides every key from one query", "bool:row"),
    "bool-padding": Masks("padding at the end, bool", padding="bool:right"),
    "left-padding": Masks("padding at the beginning, bool", padding="bool:left"),
    "float-padding": Masks("padding at the end, float: 0 and -inf", padding="float:right"),
    "all-padding": Masks("padding, bool, with a sample that is all padding", padding="bool:sample"),
    "causal-and-padding": Masks("causal, bool, and padding, bool", "bool:causal", "bool:right"),
    "mixed": Masks("causal, float, and padding, bool", "float:causal", "bool:right"),
    "memory-bool": Masks("of the memory, bool", across="bool:diagonal"),
    "memory-float": Masks("of the memory, float: 0 and -inf", across="float:diagonal"),
}
SETTINGS = {
    "train": "in training mode",
    "eval": "in eval mode",
    "eval-no-grad": "in eval mode, within torch.no_grad()",
}
# As a mask of scaled_dot_product_attention, which takes no padding, of 2 samples with 5 keys; True keeps.
_KEPT = {
    "bool:right": "[[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]",
    "bool:left": "[[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]",
    "bool:sample": "[[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]",
}
_FUNCTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class Cell:
    """What neighbouring releases do with the calls of one module, kind of mask and setting.

    ranges: (versions, what is said of them).
    """

    module: str
    mask: str
    setting: str
    call: str
    ranges: tuple[tuple[tuple[Version, ...], Said], ...]


def cells(versions: Sequence[Version], dtype: str | None = None) -> Iterator[Cell]:
    """Generates the cells of all modules that take the kind of mask."""
    for module, asked in MODULES.items():
        for mask in KINDS:
            for setting in SETTINGS:
                calls = list(dict.fromkeys(_calls(module, mask, with_dropout=setting == "train")))
                if calls:
                    questions = [_question(call, setting, asked.autograd, dtype) for call in calls]
                    yield Cell(module, mask, setting, calls[0], tuple(_ranges(questions, versions)))


def _calls(module, mask, with_dropout):
    """The texts of the calls; none if the module does not take this kind of mask."""
    asked, masks = MODULES[module], KINDS[mask]
    if (masks.across and not asked.across) or (masks.padding and not (asked.padding or _in_function(module, masks))):
        return
    given = [(asked.attention, masks.attention), (asked.across, masks.across)]
    given += [(name, masks.padding) for name in asked.padding]
    arguments = [f"{name}='{kind}'" for name, kind in given if name and kind]
    if module == _FUNCTION and masks.padding:
        arguments = [f"attn_mask=torch.tensor({_KEPT[masks.padding]}).bool()[:, None, None, :]"]
    if masks.hint:
        arguments = [*([] if module == _FUNCTION else arguments), f"{asked.hint}=True"]
    text = asked.text.replace("{masks}", "".join(f", {argument}" for argument in arguments))
    dropouts = (", dropout=0.1", ", dropout=0.0") if with_dropout else ("",)
    for dropout in dropouts:
        yield text.replace("{dropout}", dropout)


def _in_function(module, masks):
    """True if scaled_dot_product_attention can be given this padding as an attention mask."""
    return module == _FUNCTION and masks.padding in _KEPT and not masks.attention


def _question(call, setting, autograd, dtype):
    situation = Situation(
        training=setting == "train",
        autograd="no_grad" if setting == "eval-no-grad" else autograd,
        dtype=dtype,
    )
    if call.startswith("F."):
        situation = replace(situation, training=None)
    case = case_of(read(call), situation)
    return Question(case, smaller(case))


def _ranges(questions, versions):
    """(versions, Said) of neighbouring releases that do the same."""
    said = [(version, _joined([said_of(its, AnotherRelease(version)) for its in questions])) for version in versions]
    for found, group in groupby(said, key=lambda pair: pair[1]):
        yield tuple(version for version, _ in group), found


def _joined(found):
    """One Said for several calls: the first that is not as specified, with the entries of all."""
    first = next((said for said in found if said.status != CONFORMS), found[0])
    entries = {}
    for said in found:
        for entry in said.entries:
            entries.setdefault(entry.id, entry)
    return replace(first, entries=tuple(entries.values()))


# ---- formats -------------------------------------------------------------------------------------------------------


def as_json(found: Iterable[Cell], versions: Sequence[Version]) -> dict[str, object]:
    """The table as plain data. docs/ask.md has the fields."""
    found = list(found)
    shown = {entry.id: entry for cell in found for _, said in cell.ranges for entry in said.entries}
    return {
        "versions": [str(version) for version in versions],
        "modules": {id: asked.text for id, asked in MODULES.items()},
        "masks": {id: masks.words for id, masks in KINDS.items()},
        "settings": SETTINGS,
        "entries": {id: {"title": shown[id].title, "upstream": shown[id].upstream} for id in sorted(shown)},
        "cells": [_cell(cell) for cell in found],
    }


def _cell(cell):
    ranges = [
        {
            "releases": in_words(versions),
            "versions": [str(version) for version in versions],
            "status": said.status,
            "why": said.why,
            "entries": [_entry(entry) for entry in said.entries],
        }
        for versions, said in cell.ranges
    ]
    return {**{name: getattr(cell, name) for name in ("module", "mask", "setting", "call")}, "ranges": ranges}


def _entry(entry):
    return {name: value for name, value in asdict(entry).items() if name not in ("title", "instead", "upstream")}


def as_text(found: Iterable[Cell]) -> Iterator[str]:
    """Generates the lines of the table: for each cell the releases that are not as specified, with the entries."""
    for module, of_module in groupby(found, key=lambda cell: cell.module):
        yield f"{module}: {MODULES[module].text.replace('{masks}', ', ...').replace('{dropout}', '')}"
        for mask, of_mask in groupby(of_module, key=lambda cell: cell.mask):
            settings = {SETTINGS[cell.setting]: "; ".join(_differing(cell)) for cell in of_mask}
            if any(settings.values()):
                yield f"  {KINDS[mask].words}"
                yield from (f"    {setting}: {text or 'as specified'}" for setting, text in settings.items())
            else:
                yield f"  {KINDS[mask].words}: as specified"


def _differing(cell):
    for versions, said in cell.ranges:
        if said.status not in (CONFORMS, LACKING):
            yield f"{in_words(versions)} {', '.join(entry.id for entry in said.entries) or said.why}"
