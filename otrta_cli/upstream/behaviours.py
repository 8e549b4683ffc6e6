"""The models of the upstream, by how they behave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "chat",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "images",
    "image_edits",
    "speech",
    "transcriptions",
    "rerank",
    "moderations",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_WORDS = _words(
    "Each| word| of| this| answer| is| one| token| ,| café|"
    " and| 日本| too| ,| so| twenty| words| cost| twenty| tokens"
)
_LIKE_A_STREAM = _words(
    'Lines| that| look| like| a| stream|:\n\n|data: [DONE]\n\n|data:| {"usage": null}|\n\n|'
    ": otrta paid=1 cost=1 fee=0 change=0\n|: x-cashu cashuBnot-a-token\n\n|event: error\n|"
    "data:text|\n\n|and| no| more|."
)
_BIG = ("50 MB " * 416_667)[:2_500_000]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a model answers every call with."""

    status: int
    kind: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model behaves; the defaults are those of an ordinary one.

    Attributes:
        serves: The endpoints that know the model.
        words: The answer, one completion token each.
        silence_s: Time before the first byte.
        word_s: Time before each word; a plain answer waits for all of them.
        usage: Whether the answer tells the truth about usage, leaves it out, or says `null`.
        refusal: The error answered instead.
        cut: The connection closes in the middle of the answer.
        json: Whether a 200 carries JSON.
    """

    serves: frozenset[Kind] = frozenset({"chat"})
    words: tuple[str, ...] = _WORDS
    silence_s: float = 0.0
    word_s: float = 0.0
    usage: Literal["real", "absent", "null"] = "real"
    refusal: Refusal | None = None
    cut: bool = False
    json: bool = True


_BOTH: frozenset[Kind] = frozenset({"chat", "embeddings"})
_BROKEN = Refusal(500, "server_error", "internal_error", "The upstream failed, as demo-500 always does.")
_LIMITED = Refusal(429, "requests", "rate_limit_exceeded", "Too many requests, as demo-429 always says.")

BEHAVIOURS: Mapping[str, Behaviour] = {
    "demo-chat": Behaviour(),
    "demo-slow": Behaviour(word_s=0.1),
    "demo-embed": Behaviour(serves=frozenset({"embeddings"})),
    "demo-500": Behaviour(serves=_BOTH, refusal=_BROKEN),
    "demo-429": Behaviour(serves=_BOTH, refusal=_LIMITED),
    "demo-hang": Behaviour(serves=_BOTH, silence_s=15.0),
    "demo-cut": Behaviour(serves=_BOTH, cut=True),
    "demo-nousage": Behaviour(serves=_BOTH, usage="absent"),
    "demo-nullusage": Behaviour(serves=_BOTH, usage="null"),
    "demo-big": Behaviour(words=(_BIG,) * 20),
    "demo-badjson": Behaviour(serves=_BOTH, json=False),
    "demo-datatext": Behaviour(words=_LIKE_A_STREAM),
}
