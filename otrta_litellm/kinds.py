"""For which kinds of call a model is sold: by what LiteLLM lists it as, and by what it has a price for.

A price says nothing of calls that it was not made for. The tokens of a model that makes images cost nothing
beside its images, and a chat bought at that price would be free.
"""

from collections.abc import Mapping
from typing import Final

from otrta_core import ModelPrice
from otrta_core.requests import OUTPUT_LIMIT_FIELD, OUTPUTLESS, Kind

_TEXT: Final[frozenset[Kind]] = frozenset(OUTPUT_LIMIT_FIELD)
_IMAGES: Final[frozenset[Kind]] = frozenset({"images", "image_edits"})
_MADE_FOR: Final[Mapping[str, frozenset[Kind]]] = {
    "chat": _TEXT | _IMAGES,
    "completion": _TEXT,
    "responses": _TEXT | _IMAGES,
    "embedding": frozenset({"embeddings"}),
    "image_generation": _IMAGES,
    "image_edit": _IMAGES,
    "audio_speech": frozenset({"speech"}),
    "audio_transcription": frozenset({"transcriptions"}),
    "rerank": frozenset({"rerank"}),
    "moderation": frozenset({"moderations"}),
}
"""By the modes of LiteLLM's price map. Those of text may make images too, where they have a price for it."""


def is_made_for(mode: str | None, kind: Kind) -> bool:
    """Tell whether a deployment of this mode answers such calls; one without a mode may."""
    return mode is None or kind in _MADE_FOR.get(mode, ())


def has_price_for(price: ModelPrice, kind: Kind) -> bool:
    """Tell whether a price is one for such calls; one that has no price for anything is free for all.

    What is made by the piece is left to the quote, which refuses a piece without a price.
    """
    pieces = any((price.image_msat, price.character_msat_per_million, price.second_msat))
    if kind in _TEXT:
        return bool(price.dearest_output) or not (price.dearest_input or pieces)
    if kind in OUTPUTLESS:
        return bool(price.dearest_input or price.request_msat) or not (price.dearest_output or pieces)
    return True
