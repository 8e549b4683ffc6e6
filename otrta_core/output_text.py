"""The text that an answer hands over, to be counted where no usage is stated.

Answers are told apart by their shape: chat and text completions, Responses, Anthropic messages and
transcripts, whole or as the events of a stream. What a stream repeats at its end counts once.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otrta_core import wire

_EVENT_TEXTS: Final[Mapping[str, str]] = {
    "response.output_text.delta": "delta",
    "response.refusal.delta": "delta",
    "response.function_call_arguments.delta": "delta",
    "response.reasoning_text.delta": "delta",
    "response.reasoning_summary_text.delta": "delta",
    "transcript.text.delta": "delta",
}
_BLOCK_TEXTS: Final = ("text", "thinking", "partial_json", "name")


def output_text(body: object) -> str:
    """Return all text that an answer or stream event hands over: content, reasoning, tool calls, refusals."""
    return "".join(_texts(_mapping(body)))


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    for choice in _list(body.get("choices")):
        yield from _choice(_mapping(choice))
    if "choices" in body:
        return
    kind = body.get("type")
    if not isinstance(kind, str) or kind == "message":
        for item in _list(body.get("output")):
            yield from _item(_mapping(item))
        for block in _list(body.get("content")):
            yield from _block(_mapping(block))
        yield from _strings(body, "text")
    elif kind in _EVENT_TEXTS:
        yield from _strings(body, _EVENT_TEXTS[kind])
    elif kind == "response.output_item.added":
        yield from _strings(_mapping(body.get("item")), "name")
    elif kind == "content_block_start":
        yield from _block(_mapping(body.get("content_block")))
    elif kind == "content_block_delta":
        yield from _block(_mapping(body.get("delta")))


def _choice(choice: Mapping[str, Any]) -> Iterator[str]:
    yield from _strings(choice, "text")
    said = _mapping(choice.get("delta") or choice.get("message"))
    yield from _strings(said, "reasoning_content", "content", "refusal")
    for call in [*_list(said.get("tool_calls")), {"function": said.get("function_call")}]:
        yield from _strings(_mapping(_mapping(call).get("function")), "name", "arguments")


def _item(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an output item of Responses says: a message, reasoning, or a function call."""
    for name in ("summary", "content"):
        for part in _list(item.get(name)):
            yield from _strings(_mapping(part), "text", "refusal")
    yield from _strings(item, "name", "arguments")


def _block(block: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a block of an Anthropic message, or a piece of one, says."""
    yield from _strings(block, *_BLOCK_TEXTS)
    given = block.get("input")
    if isinstance(given, Mapping) and given:
        try:
            yield wire.compact_json(given)
        except RecursionError:
            return


def _strings(values: Mapping[str, Any], *names: str) -> Iterator[str]:
    return (value for name in names if isinstance(value := values.get(name), str))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
