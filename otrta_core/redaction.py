"""Taking out of a text whatever could be spent, or could open something.

Logs are the last place where a secret would be looked for and the first where it would be found, so it is
better that a harmless text is cut than that one secret stays.
"""

import re
from collections.abc import Iterable
from typing import Final

REMOVED: Final = "[removed]"

_TOKENS: Final = r"(?i:\b(?:cashu|craw|creq)[ab][a-z0-9_=+/-]{8,}={0,2})"
_WORDS: Final = r"\b(?:[a-z]{3,8} ){11,23}[a-z]{3,8}\b"  # 12 to 24 words of a seed
_KEYS: Final = r"(?i:bearer)\s+[^\s\"']+|\bsk-[A-Za-z0-9_-]{6,}"
_USER_INFO: Final = r"(?<=://)[^\s/@\"']+:[^\s/@\"']*(?=@)"
_LONG: Final = r"\b[0-9a-fA-F]{64,}\b|[A-Za-z0-9_+/=-]{80,}"

_SPENDABLE: Final = re.compile(_TOKENS)
_ANY: Final = re.compile("|".join((_TOKENS, _WORDS, _KEYS, _USER_INFO, _LONG)))

SHORTEST_LITERAL = 6


def redact(text: str, literals: Iterable[str] = ()) -> str:
    """Return a text without tokens, payment requests, seeds, keys, passwords, and all that is as long.

    Args:
        text: to be shown.
        literals: secrets to be taken out wherever they stand, such as an operator's own key.
    """
    return _ANY.sub(REMOVED, _without(text, literals))


def redact_spendable(text: str, literals: Iterable[str] = ()) -> str:
    """Return a text without tokens and payment requests: for texts of others, full of harmless hashes."""
    return _SPENDABLE.sub(REMOVED, _without(text, literals))


def _without(text: str, literals: Iterable[str]) -> str:
    for literal in literals:
        if len(literal) >= SHORTEST_LITERAL:
            text = text.replace(literal, REMOVED)
    return text
