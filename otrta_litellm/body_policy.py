"""Which fields a stranger's body may have, and what the gate writes into it.

A field that is not listed could change the price, reach another upstream or switch off the gateway's own
callbacks, so it is refused before anything is paid. Fields that clients send by habit and that only steer how
LiteLLM calls, or name the caller to it, are taken out without a word.
"""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core import InvalidRequest, wire
from otrta_core.requests import (
    OUTPUT_LIMIT_FIELD,
    Kind,
    chat,
    completions,
    embeddings,
    images,
    messages,
    moderations,
    rerank,
    responses,
    speech,
    transcriptions,
)
from otrta_core.requests.fields import Fields
from otrta_core.requests.fields import check_fields as check_against
from otrta_litellm import content_policy as content

FIELDS: Final[Mapping[Kind, Fields]] = {
    "chat": {name: check for name, check in chat.FIELDS.items() if name != "max_output_tokens"}
    | {"messages": content.are_chat_messages, "tools": content.are_function_tools},
    "completions": completions.FIELDS,
    "embeddings": embeddings.FIELDS,
    "responses": {
        **responses.FIELDS,
        "input": content.is_responses_input,
        "tools": content.are_flat_function_tools,
    },
    "messages": {
        **messages.FIELDS,
        "messages": content.are_anthropic_messages,
        "system": content.is_anthropic_system,
        "tools": content.are_anthropic_tools,
    },
    "images": images.FIELDS,
    "image_edits": images.EDIT_FIELDS,
    "speech": speech.FIELDS,
    "transcriptions": transcriptions.FIELDS,
    "rerank": {**rerank.FIELDS, "documents": content.are_documents},
    "moderations": {**moderations.FIELDS, "input": content.is_moderation_input},
}
"""What each kind of call may have in its body or form."""

_WITH_USAGE: Final[frozenset[Kind]] = frozenset({"chat", "completions"})
"""Kinds of whose streams LiteLLM takes the usage out where it is not asked for."""

MAX_CONTAINERS = 100_000
MAX_ITEMS = 1_000_000


def parse_body(raw: bytes) -> Any:
    """Decode a stranger's JSON.

    Raises:
        InvalidRequest: it is not JSON, or of so many parts that decoding it would take far more memory than
            it has bytes.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_CONTAINERS or raw.count(b",") > MAX_ITEMS:
        raise InvalidRequest("the body has too many parts: send it in several calls")
    try:
        return wire.from_json(raw)
    except ValueError:
        raise InvalidRequest("the body must be a JSON object") from None


def has_token_numbers(kind: Kind, body: Mapping[str, Any]) -> bool:
    """Tell whether an input is token numbers, which LiteLLM turns into text for some upstreams.

    Of embeddings it does so with lists of them in a list only.
    """
    if kind == "embeddings":
        given = body.get("input")
        return isinstance(given, list) and any(isinstance(item, list) for item in given)
    given = body.get("prompt") if kind == "completions" else None
    return isinstance(given, list) and any(isinstance(item, int | list) for item in given)


def check_fields(kind: Kind, body: Mapping[str, Any]) -> None:
    """Refuse fields and values whose price cannot be bounded.

    Raises:
        UnsupportedParameter: a field that is not sold, or a value of one that is not.
        InvalidRequest: a value of a wrong type.
    """
    check_against(body, FIELDS[kind])


def outbound_body(kind: Kind, body: Mapping[str, Any], model: str, output_cap: int | None) -> dict[str, Any]:
    """Return the body that LiteLLM gets: the allowed fields, and nothing else.

    Args:
        kind: which API.
        body: as the caller sent it, after ``check_fields``.
        model: the one that is bought, which a path may name instead of the body.
        output_cap: output limit to set where the caller gave none, or None.
    """
    out = {name: value for name, value in body.items() if name in FIELDS[kind] and value is not None}
    out["model"] = model
    if output_cap is not None and kind in OUTPUT_LIMIT_FIELD:
        out[OUTPUT_LIMIT_FIELD[kind]] = output_cap
    if kind in _WITH_USAGE:
        out.pop("stream_options", None)
        if body.get("stream") is True:
            out["stream_options"] = {"include_usage": True}
    if kind == "responses":
        # otherwise the upstream keeps a stranger's conversation for the operator
        out["store"] = False
    return out
