"""The models of the upstream, by how they behave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

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

TOOL = "weather"
"""The tool that a model calls."""


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
_THOUGHT = _words("First| think| about| it| ,| then| answer|.")
_ARGUMENTS = _words('{|"city"|: |"Paris"|, |"units"|: |"metric"|}')
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
        thought: What it says to itself before the answer, one completion token each.
        cached_tokens: How much of the prompt it says it had in its cache.
        cache_write_tokens: How much of the prompt it says it put into its cache.
        calls_tool: The words are the arguments of a call of the tool `TOOL`.
        failures: How many calls in a row fail before one is answered.
        json: Whether a 200 carries JSON.
    """

    serves: frozenset[Kind] = frozenset({"chat"})
    words: tuple[str, ...] = _WORDS
    silence_s: float = 0.0
    word_s: float = 0.0
    usage: Literal["real", "absent", "null"] = "real"
    refusal: Refusal | None = None
    cut: bool = False
    thought: tuple[str, ...] = ()
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    calls_tool: bool = False
    failures: int = 0
    json: bool = True

    def says(self, limit: int | None) -> "Said":
        """What it says within a limit of tokens."""
        thought = self.thought[:limit]
        words = self.words if limit is None else self.words[: max(0, limit - len(thought))]
        return Said(thought, words, len(thought) + len(words) == len(self.thought) + len(self.words))


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says.

    Attributes:
        thought: What comes before the answer.
        words: The answer itself.
        whole: Whether that is all that the model had to say.
    """

    thought: tuple[str, ...]
    words: tuple[str, ...]
    whole: bool

    @property
    def tokens(self) -> int:
        """What it is counted as."""
        return len(self.thought) + len(self.words)

    def cut(self) -> "Said":
        """The first half of it, for a model that is cut off."""
        half = (self.tokens + 1) // 2
        return Said(self.thought[:half], self.words[: max(0, half - len(self.thought))], False)


ORDINARY = Behaviour()
_TEXT: frozenset[Kind] = frozenset({"chat", "completions", "responses", "messages"})
_ALL: frozenset[Kind] = frozenset(get_args(Kind))
_BROKEN = Refusal(500, "server_error", "internal_error", "The upstream failed, as demo-500 always does.")
_LIMITED = Refusal(429, "requests", "rate_limit_exceeded", "Too many requests, as demo-429 always says.")

BEHAVIOURS: Mapping[str, Behaviour] = {
    "demo-chat": Behaviour(serves=_TEXT),
    "demo-slow": Behaviour(serves=_TEXT, word_s=0.1),
    "demo-embed": Behaviour(serves=frozenset({"embeddings"})),
    "demo-500": Behaviour(serves=_ALL, refusal=_BROKEN),
    "demo-429": Behaviour(serves=_ALL, refusal=_LIMITED),
    "demo-hang": Behaviour(serves=_ALL, silence_s=15.0),
    "demo-cut": Behaviour(serves=_ALL, cut=True),
    "demo-nousage": Behaviour(serves=_ALL, usage="absent"),
    "demo-nullusage": Behaviour(serves=_ALL, usage="null"),
    "demo-big": Behaviour(serves=_TEXT, words=(_BIG,) * 20),
    "demo-badjson": Behaviour(serves=_ALL, json=False),
    "demo-datatext": Behaviour(serves=_TEXT, words=_LIKE_A_STREAM),
    "demo-claude": Behaviour(serves=frozenset({"messages"})),
    "demo-reason": Behaviour(serves=_TEXT, thought=_THOUGHT, cached_tokens=4, cache_write_tokens=2),
    "demo-tool": Behaviour(serves=_TEXT, words=_ARGUMENTS, calls_tool=True),
    "demo-flaky": Behaviour(serves=_TEXT, failures=2),
    "demo-image": Behaviour(serves=frozenset({"images", "image_edits"})),
    "demo-speech": Behaviour(serves=frozenset({"speech"})),
    "demo-transcribe": Behaviour(serves=frozenset({"transcriptions"})),
    "demo-rerank": Behaviour(serves=frozenset({"rerank"})),
    "demo-moderate": Behaviour(serves=frozenset({"moderations"})),
}
