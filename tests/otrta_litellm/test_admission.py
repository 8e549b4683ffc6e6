"""Who may enter LiteLLM without a key, and what its logs say of the call."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from litellm.proxy._types import ProxyException
from starlette.requests import Request

from otrta_litellm.admission import ADMISSION, Admission, UsageSeen, custom_auth
from otrta_litellm.failures import error_status, hides
from otrta_litellm.observer import Observer, usage_of

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
SEEN = UsageSeen("m", 10, 20, 1, 2, 3, True)


@pytest.fixture
def admitted() -> Iterator[Admission]:
    admission = Admission("paid", CHAT, "m", "p")
    token = ADMISSION.set(admission)
    yield admission
    ADMISSION.reset(token)


def request(path: str = CHAT, query: bytes = b"", body: bytes = b'{"model": "m"}', **params: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": [],
        "path_params": params,
    }
    return Request(scope, receive)


async def test_without_an_admission_litellm_decides() -> None:
    assert await custom_auth(request(), "sk") is None


async def test_the_call_that_was_admitted_gets_in_as_nobody_in_particular(admitted: Admission) -> None:
    auth = await custom_auth(request(), "")
    assert auth is not None
    assert (auth.api_key, auth.models) == ("otrta-paid", ["m"])
    assert "p" not in (auth.user_id or "") + (auth.team_id or "")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (request(path="/v1/embeddings"), "path"),
        (request(path=CHAT + "/"), "path"),
        (request(query=b"model=other"), "query"),
        (request(body=b'{"model": "other"}'), "model"),
        (request(body=b"{}"), "model"),
        (request(body=b"[]"), "model"),
        (request(body=b"not json"), "model"),
        (request(model="other"), "model"),
    ],
)
async def test_an_admission_is_for_one_path_and_model(admitted: Admission, wrong: Request, what: str) -> None:
    with pytest.raises(ProxyException) as caught:
        await custom_auth(wrong, "")
    assert (caught.value.code, caught.value.param) == ("403", what)


async def test_a_free_admission_is_for_its_path_only() -> None:
    token = ADMISSION.set(Admission("free", "/v1/models"))
    try:
        assert await custom_auth(request(path="/v1/models"), "") is not None
        with pytest.raises(ProxyException):
            await custom_auth(request(path="/model/info"), "")
    finally:
        ADMISSION.reset(token)


async def test_usage_is_waited_for_no_longer_than_it_takes() -> None:
    admission = Admission("paid", CHAT)
    admission.record_success(SEEN)
    began = time.monotonic()
    assert await admission.wait_for_usage(5) == SEEN
    assert time.monotonic() - began < 1


async def test_a_failure_is_believed_after_a_moment_and_silence_after_the_timeout() -> None:
    admission = Admission("paid", CHAT)
    assert await admission.wait_for_usage(0.05) is None
    admission.record_failure("Timeout")
    began = time.monotonic()
    assert await admission.wait_for_usage(5) is None
    assert time.monotonic() - began < 1


async def test_a_fallbacks_success_overrides_the_failure_before_it() -> None:
    admission = Admission("paid", CHAT)
    admission.record_failure("RateLimitError")
    admission.record_success(SEEN)
    assert (admission.outcome, await admission.wait_for_usage(1)) == ("success", SEEN)


def log_of(admission: Admission, **values: object) -> dict[str, object]:
    details = {
        "prompt_tokens_details": {"cached_tokens": 1, "cache_creation_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    log = {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "model_group": "m",
        "stream": True,
        "metadata": {"usage_object": details},
    }
    return {"litellm_call_id": admission.call_id, "standard_logging_object": log | values}


async def test_the_observer_notes_the_call_that_was_admitted(admitted: Admission) -> None:
    now: Any = None
    await Observer().async_log_success_event(log_of(admitted), None, now, now)
    assert (admitted.outcome, admitted.usage_seen) == ("success", SEEN)


async def test_calls_that_litellm_makes_on_its_own_account_are_not_counted(admitted: Admission) -> None:
    now: Any = None
    other = log_of(admitted) | {"litellm_call_id": "other"}
    await Observer().async_log_success_event(other, None, now, now)
    await Observer().async_log_failure_event(other | {"exception": ValueError()}, None, now, now)
    assert (admitted.outcome, admitted.failure) == (None, None)


async def test_the_observer_names_the_kind_of_a_failure(admitted: Admission) -> None:
    now: Any = None
    failed = log_of(admitted) | {"exception": ValueError("cashuBsecret")}
    await Observer().async_log_failure_event(failed, None, now, now)
    assert (admitted.outcome, admitted.failure) == ("failure", "ValueError")


async def test_without_an_admission_the_observer_keeps_nothing() -> None:
    now: Any = None
    await Observer().async_log_success_event(log_of(Admission("paid", CHAT)), None, now, now)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": None},
        {"completion_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 1.5},
    ],
    ids=str,
)
def test_counts_that_cannot_be_trusted_count_as_none(values: dict[str, object]) -> None:
    assert usage_of(log_of(Admission("paid", CHAT), **values)) is None


def test_a_log_of_another_shape_counts_as_none() -> None:
    assert usage_of({}) is None
    assert usage_of({"standard_logging_object": SimpleNamespace()}) is None
    assert usage_of({"standard_logging_object": {"prompt_tokens": 1, "completion_tokens": 1, "metadata": 5}})


@pytest.mark.parametrize(
    ("failure", "status", "hidden"),
    [
        ("RateLimitError", 429, False),
        ("InternalServerError", 500, False),
        ("JSONSchemaValidationError", 500, True),
        ("GuardrailRaisedException", 400, True),
        (None, 500, True),
        (None, 400, False),
    ],
)
def test_only_an_upstreams_own_refusal_may_go_out(failure: str | None, status: int, hidden: bool) -> None:
    admission = Admission("paid", CHAT)
    if failure is not None:
        admission.record_failure(failure)
    assert hides(admission, status) is hidden


def test_nothing_goes_out_for_free_once_the_upstream_has_answered() -> None:
    admission = Admission("paid", CHAT)
    admission.record_success(None)
    admission.record_failure("BadRequestError")
    assert hides(admission, 400)


def test_the_observer_knows_how_long_a_sound_was() -> None:
    silent = log_of(Admission("paid", CHAT), prompt_tokens=0, completion_tokens=0)
    heard = SimpleNamespace(_hidden_params={"audio_transcription_duration": 2.5})
    found = usage_of(silent, heard)
    assert found is not None
    assert found.seconds == 3
    for nonsense in (None, True, float("nan"), -1, "x"):
        wrong = SimpleNamespace(_hidden_params={"audio_transcription_duration": nonsense})
        assert usage_of(silent, wrong) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "429"}, 429),
        ({"code": 404, "type": "rate_limit_error"}, 404),
        ({"code": None, "type": "overloaded_error"}, 529),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "server_error"}, 502),
        ({"code": "200"}, 502),
        ({"code": "٤٠٤"}, 502),
        ({}, 502),
    ],
)
def test_an_errors_status_is_its_code_or_what_its_type_stands_for(error: dict[str, Any], status: int) -> None:
    assert error_status(error) == status
