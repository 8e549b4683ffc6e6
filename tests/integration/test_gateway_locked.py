"""Tokens that are locked to the gateway's key: paid before their mint is asked."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from otrta_core import Dleq, schnorr
from otrta_litellm.ledger import earnings_msat, holdings_msat, losses_msat, swaps_msat
from tests.integration.locked import locked
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop, chat

pytestmark = pytest.mark.integration

PAID = 10_000
STRANGER = schnorr.public_key(bytes(31) + b"\5")


@pytest.fixture(scope="module")
def key(shop: Shop) -> str:
    """The key that the gateway names."""
    lock = shop.info()["lock"]
    assert lock["policy"] == "accepted"
    assert lock["min_lock_s"] == 3600
    return str(lock["pubkey"])


def ahead(seconds: int) -> str:
    return str(int(time.time()) + seconds)


def wait_until_spent(purse: Purse, ys: list[str]) -> None:
    deadline = time.monotonic() + 30
    while set(purse.states_of(ys)) != {"SPENT"} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert set(purse.states_of(ys)) == {"SPENT"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_locked_token_pays_exactly_and_its_change_has_no_lock(
    shop: Shop, purse: Purse, key: str, stream: bool
) -> None:
    token = purse.token(PAID, dleq=True, secret=locked(key))
    served = shop.buy(token, chat(stream=stream))
    assert served.sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
    assert served.change is not None
    assert not any("P2PK" in proof.secret for proof in served.change.proofs)
    assert purse.spend(served.change).amount == PAID - COST_MSAT
    wait_until_spent(purse, [proof.Y for proof in token.proofs])


def test_a_lock_with_a_time_and_refund_keys_is_taken(shop: Shop, purse: Purse, key: str) -> None:
    tags = ["sigflag", "SIG_INPUTS"], ["n_sigs", "1"], ["locktime", ahead(7200)], ["refund", STRANGER]
    served = shop.buy(purse.token(PAID, dleq=True, secret=locked(key, *tags)))
    assert served.sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)


def test_a_call_that_fails_gives_everything_back(shop: Shop, purse: Purse, key: str) -> None:
    served = shop.buy(purse.token(PAID, dleq=True, secret=locked(key)), chat("demo-500"))
    assert served.sums == (PAID, 0, 0, PAID)


def test_the_fee_of_a_locked_token_is_its_own(shop: Shop, fee_purse: Purse, key: str) -> None:
    token = fee_purse.token(PAID, dleq=True, secret=locked(key))
    fee = -(-100 * len(token.proofs) // 1000)
    assert shop.buy(token).sums == (PAID, COST_MSAT, fee, PAID - COST_MSAT - fee)


@pytest.mark.parametrize(
    "tags",
    [
        [["locktime", "-1"]],
        [["locktime", "1_000_000_000"]],
        [["locktime", "soon"]],
        [["locktime", "60 s ahead"]],
        [["refund", STRANGER]],
        [["n_sigs", "2"], ["pubkeys", STRANGER]],
        [["sigflag", "SIG_ALL"]],
        [["n_sigs", "1"], ["n_sigs", "1"]],
    ],
    ids=lambda tags: "-".join(word for tag in tags for word in tag if len(word) < 20),
)
def test_any_other_lock_is_refused_and_the_token_untouched(
    shop: Shop, purse: Purse, key: str, tags: list[list[str]]
) -> None:
    tags = [[ahead(60) if word == "60 s ahead" else word for word in tag] for tag in tags]
    token = purse.token(PAID, dleq=True, secret=locked(key, *tags))
    refused = shop.buy(token)
    assert (refused.status, refused.code) == (400, "lock_not_accepted")
    assert purse.states(token) == {"UNSPENT"}
    assert shop.change(purse.token(8, dleq=True, secret=locked(STRANGER))).status == 404


def test_locked_to_another_or_only_in_part_is_refused(shop: Shop, purse: Purse, key: str) -> None:
    theirs = purse.token(PAID, dleq=True, secret=locked(STRANGER))
    ours, open_ = purse.token(4096, dleq=True, secret=locked(key)), purse.token(4096)
    for token in (theirs, replace(ours, proofs=(*ours.proofs, *open_.proofs))):
        refused = shop.buy(token)
        assert (refused.status, refused.code) == (400, "lock_not_accepted")
        assert purse.states(token) == {"UNSPENT"}


def test_a_locked_token_needs_proof_that_its_mint_signed_it(shop: Shop, purse: Purse, key: str) -> None:
    token = purse.token(PAID, dleq=True, secret=locked(key))
    last = token.proofs[-1]
    assert last.dleq is not None
    lying = replace(last, dleq=Dleq(last.dleq.e, last.dleq.s, "11" * 32))
    for proof in (replace(last, dleq=None), lying):
        refused = shop.buy(replace(token, proofs=(*token.proofs[:-1], proof)))
        assert (refused.status, refused.code) == (400, "dleq_invalid")
    assert shop.buy(token).status == 200


def test_one_locked_token_buys_one_call_however_often_it_comes_at_once(
    shop: Shop, purse: Purse, key: str
) -> None:
    token = purse.token(PAID, dleq=True, secret=locked(key))
    part = replace(token, proofs=token.proofs[:2])
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(shop.buy, [token] * 12 + [part] * 4))
    served = [reply for reply in replies if reply.status == 200]
    told = {reply.code for reply in replies if reply.status != 200}
    assert len(served) == 1
    assert told <= {"token_pending", "token_already_spent"}
    again = shop.buy(token)
    assert (again.status, again.code) == (400, "token_already_spent")
    assert again.headers["x-cashu"] == served[0].headers["x-cashu"]


def test_what_was_locked_to_us_and_never_taken_is_given_back(
    shop: Shop, purse: Purse, fee_purse: Purse, key: str
) -> None:
    soon = locked(key, ["locktime", ahead(60)], ["refund", STRANGER])
    for at, fee in ((purse, 0), (fee_purse, 1)):
        token = at.token(PAID, dleq=at is purse, secret=soon)
        assert shop.buy(token).code == "lock_not_accepted"
        given = shop.change(token)
        assert (given.status, given.json["state"]) == (200, "settled")
        sums = [given.json[f"{name}_msat"] for name in ("paid", "cost", "fee", "change")]
        assert sums == [PAID, 0, fee, PAID - fee]
        assert given.change is not None
        assert at.states(given.change) == {"UNSPENT"}
        assert shop.change(token).headers["x-cashu"] == given.headers["x-cashu"]
        assert at.states(token) == {"SPENT"}


def test_after_all_that_the_books_are_even(shop: Shop, purse: Purse, key: str, gateway_home: Path) -> None:
    token = purse.token(PAID, dleq=True, secret=locked(key))
    assert shop.buy(token).status == 200
    wait_until_spent(purse, [proof.Y for proof in token.proofs])
    store = str(gateway_home)
    assert losses_msat(store) == 0
    assert holdings_msat(store) == earnings_msat(store) + swaps_msat(store)
    assert json.loads(json.dumps(shop.info()["lock"]))["pubkey"] == key
