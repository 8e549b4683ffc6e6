"""What a call is charged: every way in which one can end."""

import asyncio
import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from otrta_core import ModelPrice, Settlement, Usage
from otrta_core.requests import Kind
from otrta_litellm.admission import Admission, UsageSeen
from otrta_litellm.meter import Reading
from otrta_litellm.payments import Payment
from otrta_litellm.till import Ending, Till
from tests.otrta_litellm.samples import CALL, PRICE, payment, settings

pytestmark = pytest.mark.anyio

USAGE = Usage(prompt_tokens=10, completion_tokens=20)
SEEN = UsageSeen("demo-chat", 8, 21, 0, 0, 0, False)
TEXT = "Each word of this answer"
NOTHING = Reading(None, "", 0)
SAID = Reading(None, TEXT, len(TEXT))


def ended(status: int = 200, reading: Reading = NOTHING, *, stream: bool = False) -> Ending:
    return Ending(status, stream, reading)


def admitted(outcome: str | None = None, usage: UsageSeen | None = None) -> Admission:
    admission = Admission("paid", "/v1/chat/completions", "demo-chat", "p")
    if outcome == "success":
        admission.record_success(usage)
    elif outcome is not None:
        admission.record_failure(outcome)
    return admission


async def charged(ending: Ending, admission: Admission | None = None, **values: object) -> int:
    settled = await Till(settings()).settlement(payment(**values), ending, admission or admitted("success"))
    assert settled.paid == settled.charged + settled.fee + settled.change
    return settled.charged


async def test_stated_usage_is_charged_exactly() -> None:
    assert await charged(ended(reading=Reading(USAGE, TEXT, 24))) == 110
    assert await charged(ended(reading=Reading(USAGE, "", 0), stream=True)) == 110


async def test_stated_usage_stands_before_litellms_count() -> None:
    assert await charged(ended(reading=Reading(USAGE, "", 0)), admitted("success", SEEN)) == 110


async def test_without_usage_litellms_count_is_charged() -> None:
    assert await charged(ended(reading=SAID), admitted("success", SEEN)) == 8 + 21 * 5


async def test_without_any_count_the_text_is_counted() -> None:
    assert await charged(ended(reading=SAID), admitted("success")) == 50 // 4 + 5 * 5


async def test_a_failed_call_costs_nothing() -> None:
    for status in (400, 404, 408, 429, 500, 503):
        assert await charged(ended(status, SAID), admitted("RateLimitError")) == 0


async def test_a_call_that_litellm_lost_after_the_upstream_had_answered_is_charged() -> None:
    assert await charged(ended(500), admitted("success", SEEN)) == 8 + 21 * 5


async def test_an_answer_that_is_replaced_by_an_error_of_the_gate_is_free() -> None:
    lost = Ending(500, False, Reading(USAGE, TEXT, 24), whole=False)
    assert await charged(lost, admitted("success", SEEN)) == 0


async def test_an_error_of_which_nothing_was_logged_waits_a_moment_for_the_log() -> None:
    began = time.monotonic()
    assert await charged(ended(400), admitted()) == 0
    assert time.monotonic() - began < 1


async def test_a_log_that_comes_a_moment_after_the_error_counts() -> None:
    admission = admitted()
    asyncio.get_running_loop().call_later(0.05, admission.record_success, SEEN)
    assert await charged(ended(500), admission) == 8 + 21 * 5


async def test_a_stream_that_failed_before_anything_came_costs_nothing() -> None:
    error = Reading(None, "", 0, {"message": "x"})
    assert await charged(ended(reading=error, stream=True), admitted("APIConnectionError")) == 0


async def test_a_stream_that_was_cut_costs_what_came() -> None:
    cut = Reading(None, TEXT, 24, {"message": "x"})
    assert await charged(ended(reading=cut, stream=True), admitted("APIConnectionError")) == 50 // 4 + 5 * 5


async def test_a_stream_without_text_or_usage_costs_nothing() -> None:
    assert await charged(ended(stream=True), admitted("success")) == 0


async def test_a_long_text_is_charged_in_proportion_to_what_was_kept() -> None:
    once = await charged(ended(reading=Reading(None, TEXT * 100, len(TEXT) * 100)))
    thrice = await charged(ended(reading=Reading(None, TEXT * 100, len(TEXT) * 300)))
    assert (thrice - 12) == 3 * (once - 12)


async def test_an_answer_of_which_only_the_length_is_known_costs_by_its_length() -> None:
    assert await charged(ended(reading=Reading(None, "", 4000)), paid_msat=100_000) == 12 + 1000 * 5


@pytest.mark.parametrize("text", ["<|endoftext|>", "\ud800", "\x00", "a" * 300_000, "日" * 100_000])
async def test_no_text_keeps_a_call_from_being_settled(text: str) -> None:
    reading = Reading(None, text, len(text.encode("utf-8", "surrogatepass")))
    assert await charged(ended(reading=reading), paid_msat=10**9) > 12


@pytest.mark.parametrize("model", ["llama-2-7b", "command-r", "claude-3", "gpt-4o", "nobody"])
async def test_counting_never_asks_the_network_whatever_the_model_is_called(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a) or [])
    assert await charged(ended(reading=SAID), call=replace(CALL, model=model)) == 50 // 4 + 5 * 5
    assert asked == []


async def test_the_cost_never_exceeds_what_was_paid_less_the_fee() -> None:
    settled = await Till(settings()).settlement(
        payment(paid_msat=100, fee_msat=3), ended(reading=Reading(USAGE, "", 0)), admitted("success")
    )
    assert settled == Settlement(paid=100, fee=3, charged=97, change=0, excess=13)


async def test_a_failed_call_is_not_lifted_to_the_least_price() -> None:
    price = ModelPrice(input_msat_per_mtok=1, output_msat_per_mtok=1, min_msat=500, request_msat=100)
    assert await charged(ended(500), admitted("Timeout"), price=price) == 0
    assert await charged(ended(reading=Reading(USAGE, "", 0)), price=price) == 500


@pytest.mark.parametrize(
    ("rounding", "allow_zero", "costs"),
    [("up", False, {1000}), ("down", False, {1000}), ("down", True, {0}), ("stochastic", True, {0, 1000})],
)
async def test_a_sat_token_is_charged_whole_sats_by_the_published_policy(
    rounding: str, allow_zero: bool, costs: set[int]
) -> None:
    till = Till(settings(rounding=rounding, allow_zero=allow_zero))
    seen = set()
    for _ in range(80):
        settled = await till.settlement(
            payment(unit="sat", paid_msat=6000), ended(reading=Reading(USAGE, "", 0)), admitted("success")
        )
        assert settled.change == 6000 - settled.charged
        seen.add(settled.charged)
    assert seen == costs


def after_crash(**values: object) -> Settlement:
    died: Payment = payment(**values)
    return Till(settings()).settlement_after_crash(died)


async def test_a_call_that_died_costs_nothing_unless_a_live_stream_had_been_noted() -> None:
    assert after_crash().change == 10_000
    assert after_crash(live_tokens=0).change == 10_000
    assert after_crash(live_tokens=30).charged == 50 // 4 + 30 * 5
    assert after_crash(live_tokens=10**6).charged == 10_000


async def test_prices_are_those_of_the_payment() -> None:
    dear = ModelPrice(input_msat_per_mtok=10 * PRICE.input_msat_per_mtok, output_msat_per_mtok=0)
    assert await charged(ended(reading=Reading(USAGE, "", 0)), price=dear) == 100


@pytest.mark.parametrize(("setting", "cost"), [("full", 110), ("free", 0)])
async def test_an_answer_out_of_the_cache_costs_what_the_operator_says(setting: str, cost: int) -> None:
    hit = Ending(200, False, Reading(USAGE, TEXT, 24), cache_hit=True)
    settled = await Till(settings(cache_hit=setting)).settlement(payment(), hit, admitted("success"))
    assert (settled.charged, settled.change) == (cost, 10_000 - cost)


async def test_an_error_that_came_as_a_success_costs_nothing() -> None:
    error = Reading(None, "", 0, {"message": "x"})
    assert await charged(Ending(502, True, error, failed=True), admitted("success", SEEN)) == 0


async def test_a_message_that_was_cut_costs_its_prompt_as_stated_and_its_output_as_counted() -> None:
    begun = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=4)
    price = replace(PRICE, cached_input_msat_per_mtok=0)
    cut = Reading(begun, TEXT, 24, {"message": "x"}, final=False)
    assert await charged(ended(reading=cut, stream=True), admitted("Timeout"), price=price) == 6 + 5 * 5
    unsaid = replace(cut, usage=Usage(completion_tokens=9))
    assert await charged(ended(reading=unsaid, stream=True), admitted("Timeout")) == 12 + 9 * 5


def sold(kind: Kind, **figures: Any) -> dict[str, Any]:
    return {"call": replace(CALL, kind=kind, **figures), "paid_msat": 10**9}


PIECES = ModelPrice(image_msat=7, character_msat_per_million=2_000_000, second_msat=3, request_msat=11)


async def test_what_the_request_alone_decides_is_charged_where_the_answer_says_nothing() -> None:
    nothing = ended(reading=Reading(None, "", 4000))
    assert await charged(nothing, price=PIECES, **sold("speech", characters=50)) == 11 + 100
    assert await charged(nothing, price=PIECES, **sold("images", images_made=2)) == 11 + 14
    assert await charged(nothing, price=PIECES, **sold("rerank", search_units=3)) == 33


async def test_what_the_answer_says_stands_before_what_was_asked() -> None:
    two = ended(reading=Reading(Usage(images=2), "", 0))
    assert await charged(two, price=PIECES, **sold("images", images_made=5)) == 11 + 14
    heard = ended(reading=Reading(Usage(seconds=4), "Hi", 2))
    assert await charged(heard, price=PIECES, **sold("transcriptions", seconds=100)) == 11 + 12


async def test_litellm_knows_how_long_a_sound_was() -> None:
    seen = replace(SEEN, prompt_tokens=0, completion_tokens=0, seconds=9)
    call = sold("transcriptions", seconds=100)
    assert await charged(ended(reading=SAID), admitted("success", seen), price=PIECES, **call) == 11 + 27


async def test_a_transcript_of_which_nothing_is_known_costs_by_its_words() -> None:
    call = sold("transcriptions", seconds=100)
    assert await charged(ended(reading=SAID), price=PIECES, **call) == 11 + 3 * 2
    short = sold("transcriptions", seconds=1)
    assert await charged(ended(reading=SAID), price=PIECES, **short) == 11 + 3


async def test_sound_and_pictures_made_of_tokens_are_counted_by_what_was_asked() -> None:
    nothing = ended(reading=Reading(None, "", 4000))
    assert await charged(nothing, **sold("speech", characters=20)) == 12 + 30 * 5
    assert await charged(nothing, **sold("images", images_made=2)) == 12 + 2 * 1056 * 5
    assert await charged(nothing, **sold("embeddings")) == 12


@pytest.mark.parametrize("kind", ["speech", "images", "transcriptions"])
async def test_pieces_of_a_failed_call_cost_nothing(kind: Kind) -> None:
    asked = sold(kind, images_made=2, characters=5, seconds=5)
    assert await charged(ended(500), admitted("Timeout"), price=PIECES, **asked) == 0


async def test_a_free_model_costs_nothing() -> None:
    assert await charged(ended(reading=Reading(USAGE, TEXT, 24)), price=ModelPrice()) == 0
