"""What the bodies and forms of each kind may hold: what is refused untouched, and what of it goes up."""

import json
from typing import Any

import pytest

from otrta_core import Token
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, HI, Shop
from tests.integration.test_gateway_paths import CALLS, PAID, PNG, Files, conserved, request, wav
from tests.otrta_core.sound.files import OPUS_20_MS, ogg_opus

pytestmark = pytest.mark.integration

EDITS, TRANSCRIPTIONS = "/v1/images/edits", "/v1/audio/transcriptions"
OUTSIDE = "http://127.0.0.1:1/picture.png"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
IMAGE: Files = [("image", ("cat.png", PNG, "image/png"))]
CUT_OFF = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\ndemo-image"
SOUND: Files = [("file", ("a.wav", wav(1), "audio/wav"))]


@pytest.fixture(scope="module")
def token(purse: Purse) -> Token:
    """A good token that is never taken."""
    return purse.token(PAID)


def part(kind: str, **fields: Any) -> list[dict[str, Any]]:
    """A message of one part."""
    return [{"role": "user", "content": [{"type": kind, **fields}]}]


REFUSED: dict[str, tuple[str, dict[str, Any], Files]] = {
    "completions: best_of": ("completions", {"best_of": 3}, []),
    "completions: suffix of another type": ("completions", {"suffix": 5}, []),
    "completions: n beyond all": ("completions", {"n": 1000}, []),
    "completions: extra_body": ("completions", {"extra_body": {"n": 3}}, []),
    "responses: previous_response_id": ("responses", {"previous_response_id": "resp_1"}, []),
    "responses: conversation": ("responses", {"conversation": "conv_1"}, []),
    "responses: prompt": ("responses", {"prompt": {"id": "pmpt_1"}}, []),
    "responses: background": ("responses", {"background": True}, []),
    "responses: a hosted tool": ("responses", {"tools": [{"type": "web_search"}]}, []),
    "responses: a file": ("responses", {"input": part("input_file", file_id="file-1")}, []),
    "responses: an image to fetch": ("responses", {"input": part("input_image", image_url=OUTSIDE)}, []),
    "responses: an image of the operator": ("responses", {"input": part("input_image", file_id="x")}, []),
    "responses: an item to look up": ("responses", {"input": [{"type": "item_reference", "id": "x"}]}, []),
    "messages: a hosted tool": (
        "messages",
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        [],
    ),
    "messages: a server of tools": ("messages", {"mcp_servers": [{"type": "url", "url": OUTSIDE}]}, []),
    "messages: a container": ("messages", {"container": "x"}, []),
    "messages: an image to fetch": (
        "messages",
        {"messages": part("image", source={"type": "url", "url": OUTSIDE})},
        [],
    ),
    "messages: a document to fetch": (
        "messages",
        {"messages": part("document", source={"type": "url", "url": OUTSIDE})},
        [],
    ),
    "messages: a file": (
        "messages",
        {"messages": part("document", source={"type": "file", "file_id": "x"})},
        [],
    ),
    "embeddings: api_base": ("embeddings", {"api_base": OUTSIDE}, []),
    "images: a size without a price": ("images", {"size": "9999x9999"}, []),
    "images: a stream": ("images", {"stream": True}, []),
    "images: partial ones": ("images", {"partial_images": 3}, []),
    "images: n 0": ("images", {"n": 0}, []),
    "images: no prompt": ("images", {"prompt": None}, []),
    "image_edits: api_base": ("image_edits", {"api_base": OUTSIDE}, IMAGE),
    "image_edits: a high fidelity": ("image_edits", {"input_fidelity": "high"}, IMAGE),
    "image_edits: a mock": ("image_edits", {"mock_response": "free"}, IMAGE),
    "image_edits: another file": ("image_edits", {}, [*IMAGE, ("face", ("a.png", PNG, "image/png"))]),
    "image_edits: a mask alone": ("image_edits", {}, [("mask", ("a.png", PNG, "image/png"))]),
    "image_edits: n as a word": ("image_edits", {"n": "two"}, IMAGE),
    "speech: no text": ("speech", {"input": ""}, []),
    "speech: an unknown field": ("speech", {"voice_settings": {}}, []),
    "speech: a voice of the operator": ("speech", {"voice": {"id": "voice_1"}}, []),
    "transcriptions: api_base": ("transcriptions", {"api_base": OUTSIDE}, SOUND),
    "transcriptions: a mock": ("transcriptions", {"mock_response": "free"}, SOUND),
    "transcriptions: two files": ("transcriptions", {}, SOUND * 2),
    "transcriptions: a file of another name": ("transcriptions", {}, [("sound", SOUND[0][1])]),
    "transcriptions: an empty file": ("transcriptions", {}, [("file", ("a.wav", b"", "audio/wav"))]),
    "transcriptions: a stream": ("transcriptions", {"stream": "true"}, SOUND),
    "transcriptions: an address": ("transcriptions", {"url": OUTSIDE}, SOUND),
    "rerank: documents to fetch": ("rerank", {"documents": [{"url": OUTSIDE}]}, []),
    "rerank: fields to read": ("rerank", {"rank_fields": ["a"]}, []),
    "rerank: no documents": ("rerank", {"documents": []}, []),
    "moderations: no model": ("moderations", {"model": None}, []),
    "moderations: an image to fetch": (
        "moderations",
        {"input": [{"type": "image_url", "image_url": {"url": OUTSIDE}}]},
        [],
    ),
    "moderations: no text": ("moderations", {"input": []}, []),
}


@pytest.mark.parametrize(("kind", "fields", "files"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_bound_or_would_be_fetched_is_refused_untouched(
    shop: Shop, purse: Purse, token: Token, kind: str, fields: dict[str, Any], files: Files
) -> None:
    shop.forget_calls()
    call = CALLS[kind]
    sent = request(call.fields | fields, files)
    with_token, without = shop.buy(token, path=call.paths[0], **sent), shop.ask(path=call.paths[0], **sent)
    for refused in (with_token, without):
        assert refused.status == 400
        assert refused.code in ("invalid_request", "unsupported_parameter", "request_not_priceable")
    assert with_token.body == without.body
    assert purse.states(token) == {"UNSPENT"}
    assert shop.calls() == []


STEERING: dict[str, Any] = {
    "user": "spied",
    "metadata": {"who": "spied"},
    "timeout": 0.01,
    "num_retries": 3,
    "fallbacks": ["demo-slow"],
    "cache": {"no-cache": True},
    "tags": ["spied"],
    "no-log": True,
}


@pytest.mark.parametrize("kind", [kind for kind, call in CALLS.items() if not call.files])
def test_what_steers_litellm_or_names_the_caller_goes_no_further(shop: Shop, purse: Purse, kind: str) -> None:
    shop.forget_calls()
    call = CALLS[kind]
    served = shop.buy(purse.token(PAID), path=call.paths[0], **call.of(**STEERING))
    assert served.status == 200, served.body
    conserved(served, purse, PAID, call.cost)
    (seen,) = shop.calls()
    assert not STEERING.keys() & set(seen["body_keys"])
    assert "spied" not in json.dumps(seen)


@pytest.mark.parametrize("kind", ["image_edits", "transcriptions"])
def test_a_forms_steering_fields_go_no_further_either(shop: Shop, purse: Purse, kind: str) -> None:
    shop.forget_calls()
    call = CALLS[kind]
    steering = {"user": "spied", "timeout": "0.01", "num_retries": "3", "no-log": "true", "tags": "spied"}
    served = shop.buy(purse.token(PAID), path=call.paths[0], **call.of(**steering))
    conserved(served, purse, PAID, call.cost)
    (seen,) = shop.calls()
    assert not steering.keys() & set(seen["body_keys"])
    assert "spied" not in json.dumps(seen)


@pytest.mark.parametrize(
    "path",
    ["/engines/demo-chat/chat/completions", "/openai/deployments/demo-chat/chat/completions"],
)
def test_the_model_of_a_path_beats_the_bodys(shop: Shop, purse: Purse, path: str) -> None:
    shop.forget_calls()
    body = {"model": "demo-slow", "messages": HI, "max_tokens": 20}
    served = shop.buy(purse.token(PAID), body, path=path)
    conserved(served, purse, PAID, 110)
    assert [call["model"] for call in shop.calls()] == ["demo-chat"]
    shop.forget_calls()
    unnamed = shop.buy(purse.token(PAID), {"messages": HI, "max_tokens": 20}, path=path)
    conserved(unnamed, purse, PAID, 110)
    assert [call["model"] for call in shop.calls()] == ["demo-chat"]


def test_a_path_names_no_model_that_is_not_sold(shop: Shop, purse: Purse, token: Token) -> None:
    shop.forget_calls()
    for name in ("nobody", "openai/demo-chat", "demo-chat,demo-slow", "..", "demo-chat%2F..", "%00"):
        refused = shop.buy(token, {"model": "demo-chat", "messages": HI}, path=f"/engines/{name}/completions")
        assert refused.code in ("model_not_found", "invalid_request", "path_not_payable"), name
    assert purse.states(token) == {"UNSPENT"}
    assert shop.calls() == []


def test_the_model_of_a_forms_path_beats_the_forms(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    sent = request({"model": "demo-chat", "prompt": "hi"}, IMAGE)
    served = shop.buy(purse.token(PAID), path="/openai/deployments/demo-image/images/edits", **sent)
    conserved(served, purse, PAID, 10 + 90 + 5000)
    assert [call["model"] for call in shop.calls()] == ["demo-image"]


def test_several_images_are_sent_as_openais_own_client_sends_them(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    files: Files = [("image[]", (f"{n}.webp", PNG, "image/webp")) for n in "abc"]
    served = shop.buy(
        purse.token(PAID), path=EDITS, **request({"model": "demo-image", "prompt": "hi"}, files)
    )
    conserved(served, purse, PAID, 10 + 3 * 90 + 5000)
    (seen,) = shop.calls()
    assert [file["bytes"] for file in seen["body"]["files"]] == [len(PNG)] * 3


def test_of_a_files_name_only_its_ending_goes_up(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    files: Files = [("file", ("../../my secret diary.WAV", wav(1), "audio/wav; spied=1"))]
    sent = request({"model": "demo-transcribe"}, files)
    assert shop.buy(purse.token(PAID), path=TRANSCRIPTIONS, **sent).status == 200
    (seen,) = shop.calls()
    (file,) = seen["body"]["files"]
    assert file["filename"].endswith(".wav")
    assert "diary" not in json.dumps(seen)
    assert "spied" not in json.dumps(seen)


@pytest.mark.parametrize("answer", ["json", "text", "verbose_json", "srt", "vtt"])
def test_a_transcript_costs_its_seconds_in_whatever_form(shop: Shop, purse: Purse, answer: str) -> None:
    sent = request({"model": "demo-transcribe", "response_format": answer}, CALLS["transcriptions"].files)
    served = shop.buy(purse.token(PAID), path=TRANSCRIPTIONS, **sent)
    assert served.status == 200, served.body
    assert b"twenty words cost twenty tokens" in served.body
    # a text says nothing of its seconds, so those that its twenty words take are charged
    seconds = served.sums[1] // 100
    conserved(served, purse, PAID, 100 * seconds)
    assert seconds == 2 if answer != "text" else 1 <= seconds <= 3


def test_speech_that_states_nothing_is_charged_by_what_was_asked(shop: Shop, purse: Purse) -> None:
    call = CALLS["speech"]
    served = shop.buy(purse.token(PAID), path=call.paths[0], **call.of("demo-nousage"))
    # 4 characters at 15 msat; a quarter of the prompt's bound of 53; 6 tokens of sound for 4 characters
    conserved(served, purse, PAID, 4 * 15 + 53 // 4 + 6 * 5)


@pytest.mark.parametrize(
    ("path", "raw", "content_type"),
    [
        (EDITS, b"", "multipart/form-data; boundary=b"),
        (EDITS, b"--b--\r\n", "multipart/form-data; boundary=b"),
        (
            EDITS,
            b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\nx",
            "multipart/form-data; boundary=b",
        ),
        (EDITS, b"{}", "application/json"),
        (EDITS, b"model=demo-image&prompt=hi", "application/x-www-form-urlencoded"),
        (TRANSCRIPTIONS, b"--\r\n" * 10_000, "multipart/form-data; boundary="),
        (TRANSCRIPTIONS, b"--b\r\n\r\n" * 10_000, "multipart/form-data; boundary=b"),
        (TRANSCRIPTIONS, b"--b\r\n" + b"X: y\r\n" * 10_000, "multipart/form-data; boundary=b"),
        (TRANSCRIPTIONS, b"--b\r\nX: " + b"y" * 1_000_000, "multipart/form-data; boundary=b"),
        (CHAT, b"--b--\r\n", "multipart/form-data; boundary=b"),
    ],
    ids=range(10),
)
def test_what_is_no_form_is_an_invalid_request(
    shop: Shop, purse: Purse, token: Token, path: str, raw: bytes, content_type: str
) -> None:
    for pay in (token, None):
        refused = shop.buy(pay, path=path, content=raw, headers={"Content-Type": content_type})
        assert (refused.status, refused.code) == (400, "invalid_request")
    assert purse.states(token) == {"UNSPENT"}


def test_an_image_in_the_prompt_is_bought_where_it_is_inline(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    body = {
        "model": "demo-nousage",
        "max_tokens": 20,
        "messages": part("image_url", image_url={"url": PIXEL}),
    }
    assert shop.ask(body).error["required_msat"] == 32 + 16 + 100 + 20 * 5
    served = shop.buy(purse.token(PAID), body)
    assert served.status == 200, served.body
    conserved(served, purse, PAID, served.sums[1])
    assert shop.calls()[0]["body"]["messages"][0]["content"][0]["image_url"]["url"] == PIXEL


def test_silence_that_plays_longer_than_its_size_says_is_refused_untouched(
    shop: Shop, purse: Purse, token: Token
) -> None:
    shop.forget_calls()
    thin: Files = [("file", ("a.ogg", ogg_opus(10_000, OPUS_20_MS), "audio/ogg"))]
    refused = shop.buy(token, path=TRANSCRIPTIONS, **request({"model": "demo-transcribe"}, thin))
    assert (refused.status, refused.code) == (400, "request_not_priceable")
    assert purse.states(token) == {"UNSPENT"}
    assert shop.calls() == []
