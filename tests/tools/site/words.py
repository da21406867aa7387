"""The words in which readers look for an entry or a claim, and the symptom in a sentence. Written by hand."""

from dataclasses import dataclass

from .words_of_claims import WORDS as OF_CLAIMS
from .words_of_entries import WORDS as OF_ENTRIES
from .words_of_wrong_masks import WORDS as OF_WRONG_MASKS


@dataclass(frozen=True)
class Words:
    """How readers speak of an entry, or of a claim."""

    symptom: str  # a sentence: the observation of a user who does not know the cause; empty for a claim
    aliases: tuple[str, ...]  # queries: arguments, error texts, torch's terms


def _words(symptom, aliases):
    return Words(symptom, tuple(alias.strip() for alias in aliases.split(";")))


# {id: Words}, in the order in which people meet the entries.
ENTRIES = {id: _words(*words) for id, words in (OF_ENTRIES | OF_WRONG_MASKS).items()}
CLAIMS = {id: _words("", aliases) for id, aliases in OF_CLAIMS.items()}

# Queries for the page about models, in which the doctor watched their attention.
_OF_MODELS = (
    "ViT; vision transformer; Swin; shifted window; DETR; object queries; BERT; encoder model; llama; decoder model;"
    " wav2vec2; conformer; emformer; whisper; speech model; speechbrain; torchvision; torchaudio; transformers;"
    " hugging face; check my model; my own model; debug my model; which layer gives nan"
)
OF_MODELS = _words("", _OF_MODELS)


def place(id: str) -> int:
    """The place of an entry in the order in which people meet entries; an entry without words comes last."""
    return list(ENTRIES).index(id) if id in ENTRIES else len(ENTRIES)
