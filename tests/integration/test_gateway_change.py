"""The change route: what was left of a token, for its owner, again and again until it is spent."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from otrta_core import Token
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop, chat

pytestmark = pytest.mark.integration

PAID = 10_000


def test_change_can_be_fetched_again_with_the_original_token(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    served = shop.buy(token)
    for path in ("/v1/cashu/change", "/v1/wallet/refund"):
        for text in (token.encode(4), token.encode(3)):
            again = shop.change(text, path)
            assert again.status == 200
            assert again.json == {
                "state": "settled",
                "paid_msat": PAID,
                "cost_msat": COST_MSAT,
                "fee_msat": 0,
                "change_msat": PAID - COST_MSAT,
            }
            assert again.headers["x-cashu"] == served.headers["x-cashu"]
            assert again.headers["cache-control"] == "no-store"
            assert "X-Cashu" in again.headers["access-control-expose-headers"]


@pytest.mark.parametrize("version", [3, 4])
def test_a_token_pays_once_in_whatever_encoding(shop: Shop, purse: Purse, version: int) -> None:
    token = purse.token(PAID)
    served = shop.buy(token)
    shop.forget_calls()
    shuffled = replace(token, proofs=token.proofs[::-1])
    again = shop.buy(shuffled.encode(version))
    assert (again.status, again.code) == (400, "token_already_spent")
    assert again.headers["x-cashu"] == served.headers["x-cashu"]
    assert shop.calls() == []


def test_once_the_change_is_spent_it_is_claimed_and_forgotten(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    served = shop.buy(token)
    assert served.change is not None
    purse.spend(served.change)
    replayed = shop.buy(token)
    assert replayed.code == "token_already_spent"
    assert "x-cashu" not in replayed.headers
    for _ in range(2):
        claimed = shop.change(token)
        assert (claimed.status, claimed.json["state"]) == (200, "claimed")
        assert claimed.json["change_msat"] == PAID - COST_MSAT
        assert "x-cashu" not in claimed.headers


def test_change_of_which_a_part_is_spent_is_not_claimed(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    served = shop.buy(token)
    assert served.change is not None
    purse.spend(replace(served.change, proofs=served.change.proofs[:1]))
    assert shop.change(token).json["state"] == "settled"


def test_a_failed_calls_money_can_be_fetched_again_too(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    served = shop.buy(token, chat("demo-500"))
    again = shop.change(token)
    assert (again.json["cost_msat"], again.json["change_msat"]) == (0, PAID)
    assert again.headers["x-cashu"] == served.headers["x-cashu"]


def test_without_change_there_is_no_x_cashu(shop: Shop, purse: Purse) -> None:
    token = purse.token(1, "sat")
    served = shop.buy(token, chat(max_tokens=20))
    assert served.sums == (1000, 1000, 0, 0)
    assert "x-cashu" not in served.headers
    again = shop.change(token)
    assert (again.status, again.json["state"], again.json["change_msat"]) == (200, "settled", 0)
    assert "x-cashu" not in again.headers


def test_a_token_that_was_never_taken_is_not_found_and_untouched(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    assert (shop.change(token).status, shop.change(token).code) == (404, "payment_not_found")
    assert purse.states(token) == {"UNSPENT"}


@pytest.mark.parametrize("text", [None, "", "garbage", "cashuBAAAA", "creqAo2F0gA=="])
def test_garbage_and_nothing_are_malformed(shop: Shop, text: str | None) -> None:
    assert shop.change(text or "").status == 400


def test_a_token_of_a_strange_mint_is_not_found(shop: Shop, purse: Purse) -> None:
    token = replace(purse.token(PAID), mint="http://127.0.0.1:1")
    assert shop.change(token).status == 404


def test_change_of_a_token_with_a_memo_is_only_for_who_knows_the_memo(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID, memo="b5f1c2d07a4e4a3f")
    served = shop.buy(token)
    assert served.status == 200
    for stranger in (replace(token, memo=None), replace(token, memo="another")):
        for refused in (shop.change(stranger), shop.buy(stranger)):
            assert (refused.status, refused.code) == (400, "token_already_spent")
            assert "x-cashu" not in refused.headers
    assert shop.change(token).headers["x-cashu"] == served.headers["x-cashu"]
    assert shop.buy(token).headers["x-cashu"] == served.headers["x-cashu"]


def test_part_of_a_taken_token_and_more_than_it_get_no_change(shop: Shop, purse: Purse) -> None:
    token, other = purse.token(PAID), purse.token(4096)
    assert shop.buy(token).status == 200
    part = replace(token, proofs=token.proofs[:-1])
    more = replace(token, proofs=token.proofs + other.proofs)
    for wrong in (part, more):
        for refused in (shop.buy(wrong), shop.change(wrong)):
            assert (refused.status, refused.code) == (400, "token_already_spent")
            assert "x-cashu" not in refused.headers
    assert purse.states(other) == {"UNSPENT"}


def test_proofs_of_two_taken_tokens_get_no_change(shop: Shop, purse: Purse) -> None:
    one, two = purse.token(PAID), purse.token(PAID)
    assert (shop.buy(one).status, shop.buy(two).status) == (200, 200)
    both = replace(one, proofs=one.proofs + two.proofs)
    assert shop.change(both).code == "token_already_spent"
    assert "x-cashu" not in shop.change(both).headers


def test_while_its_call_runs_a_token_is_redeemed_and_pending(shop: Shop, purse: Purse) -> None:
    token, other = purse.token(PAID, memo="mine"), purse.token(4096)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shop.buy, token, chat("demo-slow"))
        waiting = shop.wait_until_taken(token)
        assert (waiting.status, waiting.json["state"]) == (202, "redeemed")
        assert (waiting.json["cost_msat"], waiting.json["change_msat"]) == (None, None)
        assert "retry-after" in waiting.headers
        part = replace(token, proofs=token.proofs[:2])
        more = replace(token, proofs=token.proofs + other.proofs)
        for wrong in (token, part, more, replace(token, memo=None)):
            refused = shop.buy(wrong)
            assert (refused.status, refused.code) == (409, "token_pending")
            assert "x-cashu" not in refused.headers
        assert not running.done()
        assert running.result().sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
    assert shop.change(token).json["state"] == "settled"
    assert purse.states(other) == {"UNSPENT"}


def test_the_same_token_sent_many_times_at_once_is_served_once(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    shop.forget_calls()
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: shop.buy(token), range(50)))
    served = [reply for reply in replies if reply.status == 200]
    assert len(served) == 1
    refused = {(reply.status, reply.code) for reply in replies if reply.status != 200}
    assert refused <= {(409, "token_pending"), (400, "token_already_spent")}
    assert len(shop.calls()) == 1
    assert {r.headers["x-cashu"] for r in replies if "x-cashu" in r.headers} == {served[0].headers["x-cashu"]}


def test_overlapping_tokens_sent_at_once_pay_once(shop: Shop, purse: Purse) -> None:
    proofs = purse.token(16 * 1024, parts=[1024] * 16).proofs
    tokens = [Token(purse.mint, "msat", proofs[n : n + 8]) for n in range(8)]
    shop.forget_calls()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(shop.buy, tokens))
    served = [reply for reply in replies if reply.status == 200]
    assert 1 <= len(served) <= 2
    assert len(shop.calls()) == len(served)
