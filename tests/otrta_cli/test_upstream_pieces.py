"""The upstream's kinds of call that are sold by the piece: images, sound, reranks and moderations."""

import base64
import io
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from otrta_cli.upstream import BEHAVIOURS, NOT_JSON, make_app
from otrta_cli.upstream.audio import SOUND
from otrta_cli.upstream.images import PIXEL

TEXT = "".join(BEHAVIOURS["demo-chat"].words)
JSON_CALLS: dict[str, dict[str, Any]] = {
    "/v1/images/generations": {"prompt": "a cat"},
    "/v1/audio/speech": {"input": "hi", "voice": "alloy"},
    "/v1/rerank": {"query": "q", "documents": ["a", "b"]},
    "/v1/moderations": {"input": "hi"},
}
FORM_CALLS: dict[str, tuple[dict[str, str], dict[str, tuple[str, bytes]]]] = {
    "/v1/images/edits": ({"prompt": "a cat"}, {"image": ("a.png", PIXEL)}),
    "/v1/audio/transcriptions": ({}, {"file": ("a.mp3", b"x" * 40_000)}),
}
PATHS = [*JSON_CALLS, *FORM_CALLS]


@pytest.fixture(scope="module")
def upstream() -> Iterator[TestClient]:
    with TestClient(make_app()) as client:
        yield client


def ask(upstream: TestClient, path: str, model: str, **fields: Any) -> httpx.Response:
    answered: httpx.Response
    if path in JSON_CALLS:
        answered = upstream.post(path, json={"model": model, **JSON_CALLS[path], **fields})
    else:
        texts, files = FORM_CALLS[path]
        files = fields.pop("files", files)
        answered = upstream.post(path, data={"model": model, **texts, **fields}, files=files)
    return answered


def wav(seconds: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000 * seconds))
    return out.getvalue()


def test_as_many_images_are_made_as_are_asked_for(upstream: TestClient) -> None:
    body = ask(upstream, "/v1/images/generations", "demo-image", n=3).json()
    assert [base64.b64decode(image["b64_json"]) for image in body["data"]] == [PIXEL] * 3
    assert body["usage"]["input_tokens"] == 10
    linked = ask(upstream, "/v1/images/generations", "demo-image", response_format="url").json()
    assert linked["data"][0]["url"].startswith("https://")


def test_an_edits_images_count_as_tokens(upstream: TestClient) -> None:
    files = [("image[]", ("a.png", PIXEL)), ("image[]", ("b.png", PIXEL)), ("mask", ("m.png", PIXEL))]
    answered = upstream.post("/v1/images/edits", data={"model": "demo-image", "prompt": "x"}, files=files)
    assert answered.json()["usage"]["input_tokens"] == 10 + 3 * 90
    assert upstream.post("/v1/images/edits", data={"model": "demo-image", "prompt": "x"}).status_code == 400


@pytest.mark.parametrize(("wanted", "media_type"), [(None, "audio/mpeg"), ("wav", "audio/wav")])
def test_speech_is_sound(upstream: TestClient, wanted: str | None, media_type: str) -> None:
    fields = {} if wanted is None else {"response_format": wanted}
    answered = ask(upstream, "/v1/audio/speech", "demo-speech", **fields)
    assert (answered.content, answered.headers["content-type"]) == (SOUND, media_type)


def test_a_transcription_says_how_long_the_sound_was(upstream: TestClient) -> None:
    path = "/v1/audio/transcriptions"
    usage = {"type": "duration", "seconds": 3}
    assert ask(upstream, path, "demo-transcribe").json() == {"text": TEXT, "usage": usage}
    long = ask(upstream, path, "demo-transcribe", files={"file": ("a.wav", wav(7))}).json()
    assert long["usage"]["seconds"] == 7
    verbose = ask(upstream, path, "demo-transcribe", response_format="verbose_json").json()
    assert (verbose["duration"], verbose["text"], verbose["usage"]) == (2.5, TEXT, usage)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("text", f"{TEXT}\n"),
        ("srt", f"1\n00:00:00,000 --> 00:00:02,500\n{TEXT}\n"),
        ("vtt", f"WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n{TEXT}\n"),
    ],
)
def test_a_transcription_may_be_a_text(upstream: TestClient, wanted: str, text: str) -> None:
    answered = ask(upstream, "/v1/audio/transcriptions", "demo-transcribe", response_format=wanted)
    assert (answered.text, answered.headers["content-type"]) == (text, "text/plain; charset=utf-8")


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/v1/v2/rerank"])
def test_a_rerank_is_billed_by_the_hundred_documents(upstream: TestClient, path: str) -> None:
    body = {"model": "demo-rerank", "query": "q", "documents": ["d"] * 101, "top_n": 2}
    answered = upstream.post(path, json=body).json()
    assert [result["index"] for result in answered["results"]] == [0, 1]
    assert answered["meta"]["billed_units"] == {"search_units": 2}


def test_a_moderation_judges_each_text(upstream: TestClient) -> None:
    assert len(ask(upstream, "/v1/moderations", "demo-moderate", input=["a", "b"]).json()["results"]) == 2
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (result,) = ask(upstream, "/v1/moderations", "demo-moderate", input=parts).json()["results"]
    assert result["flagged"] is False


@pytest.mark.parametrize("path", PATHS)
def test_the_faults_are_on_every_path(upstream: TestClient, path: str) -> None:
    assert [ask(upstream, path, model).status_code for model in ("demo-500", "demo-429")] == [500, 429]
    assert ask(upstream, path, "demo-badjson").text == NOT_JSON
    cut = ask(upstream, path, "demo-cut")
    assert len(cut.content) < int(cut.headers["content-length"])
    assert ask(upstream, path, "demo-chat").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits", "/v1/audio/transcriptions"])
def test_usage_can_be_absent_or_null(upstream: TestClient, path: str) -> None:
    assert "usage" not in ask(upstream, path, "demo-nousage").json()
    assert ask(upstream, path, "demo-nullusage").json()["usage"] is None


def test_a_rerank_can_be_silent_about_what_it_billed(upstream: TestClient) -> None:
    assert "meta" not in ask(upstream, "/v1/rerank", "demo-nousage").json()
    assert ask(upstream, "/v1/rerank", "demo-nullusage").json()["meta"]["billed_units"] is None


def test_a_form_is_kept_with_what_its_files_were_called(upstream: TestClient) -> None:
    upstream.delete("/_calls")
    ask(upstream, "/v1/audio/transcriptions", "demo-transcribe", **{"timestamp_granularities[]": "word"})
    (call,) = upstream.get("/_calls").json()["calls"]
    assert (call["model"], call["body"]["timestamp_granularities"]) == ("demo-transcribe", ["word"])
    (file,) = call["body"]["files"]
    assert (file["field"], file["filename"], file["bytes"]) == ("file", "a.mp3", 40_000)
