"""A gateway of its own whose mints fail, whose upstream is slow, and which is killed and started again."""

import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from otrta_cli.processes import Running, config_dir, free_port, start_gateway, start_mint
from otrta_cli.upstream.audio import SOUND
from otrta_core import Token
from otrta_litellm.ledger import earnings_msat, holdings_msat
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.integration.locked import locked
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Reply, Shop, chat
from tests.integration.slow_upstream import slow_upstream

pytestmark = pytest.mark.integration

PAID = 10_000
DROPPED = Fault("reply-dropped", keeps=None)
BROKEN = Fault("502-before-it", forwards=0, answer=(502, b"<html>Bad Gateway</html>"))
SSE = {"X-Cashu-Change": "sse"}


@dataclass
class Frail:
    """The gateway, and what stands around it."""

    running: Running
    shop: Shop
    home: Path
    proxy: FaultProxy
    purse: Purse
    mortal: Running
    mortal_home: Path
    mortal_purse: Purse
    config: Path
    upstream_url: str

    def start(self) -> None:
        """Start the gateway again where it was."""
        self.running = start_gateway(
            self.home,
            self.running.port,
            config=self.config,
            upstream_url=self.upstream_url,
            mints=f"{self.proxy.url},{self.mortal.url}",
            log=self.running.log,
            env=SETTINGS,
        )


SETTINGS = {"OTRTA_GATEWAY_UNIT": "sat", "OTRTA_GATEWAY_BUFFER_BYTES": "2000"}


@pytest.fixture(scope="module")
def frail(mint: Running, upstream: Running, parts_home: Path) -> Iterator[Frail]:
    """The gateway, with a mint behind a proxy and one that can be killed."""
    logs = parts_home / "logs"
    mortal_home = parts_home / "mortal-mint"
    mortal = start_mint(
        mortal_home, free_port(), log=logs / "mortal.log", env={"MINT_PRIVATE_KEY": "mortal"}, wait=False
    )
    with slow_upstream() as slow, fault_proxy(mint.port) as proxy:
        config = yaml.safe_load((config_dir() / "litellm.yaml").read_text())
        for model in config["model_list"]:
            if model["model_name"] == "demo-slow":
                model["litellm_params"]["api_base"] = slow
            if model["model_name"] == "demo-hang":
                model["litellm_params"].update(timeout=1, stream_timeout=1)
        path = parts_home / "frail.yaml"
        path.write_text(yaml.safe_dump(config))
        home = parts_home / "frail-gateway"
        mortal.wait_ready()
        running = start_gateway(
            home,
            free_port(),
            config=path,
            upstream_url=upstream.url,
            mints=f"{proxy.url},{mortal.url}",
            log=logs / "frail.log",
            env=SETTINGS,
        )
        with (
            Shop(running.url, upstream.url) as shop,
            Purse(mint.url, proxy.url) as purse,
            Purse(mortal.url) as mortal_purse,
        ):
            frail = Frail(
                running, shop, home, proxy, purse, mortal, mortal_home, mortal_purse, path, upstream.url
            )
            yield frail
        frail.running.stop()
        frail.mortal.stop()


def wait_for(frail: Frail, query: str, count: int = 1) -> None:
    """Wait until so many payments of the gateway's store are as a query says."""
    deadline = time.monotonic() + 30
    found = 0
    while found < count and time.monotonic() < deadline:
        time.sleep(0.05)
        connection = sqlite3.connect(f"file:{frail.home}/gateway.sqlite3?mode=ro", uri=True)
        found = connection.execute(f"select count(*) from payments where {query}").fetchone()[0]
        connection.close()
    assert found >= count


def slow(seconds: float, **fields: object) -> dict[str, object]:
    """A call that takes so long."""
    return {"model": "demo-slow", "messages": [{"role": "user", "content": str(seconds)}], **fields}


def test_a_gateway_of_sats_asks_for_sats(frail: Frail) -> None:
    asked = frail.shop.ask()
    assert (asked.request.unit, asked.request.amount) == ("sat", 6)
    assert asked.error["required_msat"] == 5170
    assert set(asked.request.mints) == {frail.proxy.url, frail.mortal.url}
    served = frail.shop.buy(frail.purse.token(6, "sat"))
    assert served.sums == (6000, 1000, 0, 5000)
    assert frail.shop.buy(frail.purse.token(PAID)).sums[1] == COST_MSAT


def test_an_upstream_that_hangs_costs_nothing(frail: Frail) -> None:
    served = frail.shop.buy(frail.purse.token(PAID), chat("demo-hang"))
    assert served.status == 408
    assert served.sums == (PAID, 0, 0, PAID)


def test_a_plain_answer_over_the_bound_goes_out_without_its_change(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    served = frail.shop.buy(token, chat(n=8))
    assert len(served.json["choices"]) == 8
    assert served.headers["x-otrta-change"] == "claim"
    assert "x-cashu" not in served.headers
    left = frail.shop.change(token)
    assert left.json["cost_msat"] == 10 + 8 * 20 * 5
    assert left.change is not None


def test_a_sound_over_the_bound_goes_out_whole_without_its_change(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    spoken = {"model": "demo-speech", "input": "hi", "voice": "alloy"}
    served = frail.shop.buy(token, spoken, path="/v1/audio/speech", headers=SSE)
    assert (served.status, served.body) == (200, SOUND)
    assert served.headers["content-type"].startswith("audio/")
    assert served.headers["x-otrta-change"] == "claim"
    assert "x-cashu" not in served.headers
    left = frail.shop.wait_until_over(token)
    assert (left.json["cost_msat"], left.json["change_msat"]) == (2 * 15, PAID - 2 * 15)
    assert left.change is not None
    assert frail.purse.spend(left.change).amount == PAID - 2 * 15


def test_a_stream_over_the_bound_carries_its_change_in_comments(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    served = frail.shop.buy(token, chat(stream=True))
    assert "x-cashu" not in served.headers
    assert served.comments["otrta"] == f"paid={PAID} cost=110 fee=0 change={PAID - 110}"
    assert served.comments["x-cashu"] == frail.shop.change(token).headers["x-cashu"]
    assert served.body.endswith(b"data: [DONE]\n\n")


def test_an_unreachable_mint_leaves_the_token_untouched(frail: Frail) -> None:
    token = frail.mortal_purse.token(PAID)
    frail.mortal.kill()
    refused = frail.shop.buy(token)
    assert (refused.status, refused.code) == (503, "mint_unreachable")
    assert "untouched" in refused.error["message"]
    assert "retry-after" in refused.headers
    assert frail.shop.change(token).status == 404
    assert frail.shop.buy(frail.purse.token(PAID)).status == 200
    frail.mortal = start_mint(
        frail.mortal_home,
        frail.mortal.port,
        log=frail.mortal.log,
        env={"MINT_PRIVATE_KEY": "mortal"},
    )
    assert frail.mortal_purse.states(token) == {"UNSPENT"}
    assert frail.shop.buy(token).status == 200


def test_change_can_be_fetched_while_the_mint_is_away(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    served = frail.shop.buy(token)
    frail.proxy.spoil("checkstate", BROKEN, BROKEN, BROKEN)
    assert frail.shop.change(token).headers["x-cashu"] == served.headers["x-cashu"]


def test_a_swap_whose_answer_is_lost_is_found_again(frail: Frail) -> None:
    frail.proxy.spoil("swap", DROPPED)
    served = frail.shop.buy(frail.purse.token(PAID))
    assert served.sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)


def test_a_swap_whose_outcome_is_unknown_is_journalled_and_claimable(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    frail.shop.forget_calls()
    frail.proxy.spoil("swap", DROPPED)
    frail.proxy.spoil("checkstate", BROKEN, BROKEN, BROKEN)
    refused = frail.shop.buy(token)
    assert (refused.status, refused.code) == (503, "mint_unreachable")
    assert "journalled" in refused.error["message"]
    assert "untouched" not in refused.error["message"]
    assert frail.shop.calls() == []
    assert frail.shop.buy(token).code in ("token_pending", "token_already_spent")
    left = frail.shop.wait_until_over(token)
    assert (left.json["cost_msat"], left.json["change_msat"]) == (0, PAID)
    assert left.change is not None
    assert frail.purse.states(left.change) == {"UNSPENT"}


def pending(body: bytes) -> bytes:
    """The answer of a mint that sees these proofs being spent."""
    said = json.loads(body)
    return json.dumps({"states": [{**state, "state": "PENDING"} for state in said["states"]]}).encode()


def test_a_token_that_is_pending_at_the_mint_is_refused_and_untouched(frail: Frail) -> None:
    token = frail.purse.token(PAID)
    frail.proxy.spoil("swap", Fault("pending", forwards=0, answer=(400, b'{"detail": "x", "code": 11002}')))
    frail.proxy.spoil("checkstate", Fault("says-pending", twist=pending))
    refused = frail.shop.buy(token)
    assert (refused.status, refused.code) == (409, "token_pending")
    assert frail.purse.states(token) == {"UNSPENT"}
    assert frail.shop.change(token).status == 404
    assert frail.shop.buy(token).status == 200


def set_aside(frail: Frail, was: str, now_is: str) -> None:
    """Take the gateway's float away, or give it back."""
    connection = sqlite3.connect(frail.home / "gateway.sqlite3", timeout=10)
    with connection:
        connection.execute("update proofs set status = ? where status = ?", (now_is, was))
    connection.close()


def test_change_that_cannot_be_made_is_owed_and_paid_later(frail: Frail) -> None:
    plain, live = frail.purse.token(PAID), frail.purse.token(PAID)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(frail.shop.buy, plain, slow(1.5)),
            pool.submit(frail.shop.buy, live, slow(1.5, stream=True), headers=SSE),
        ]
        wait_for(frail, "state = 'redeemed'", 2)
        set_aside(frail, "available", "gone")
        answer, stream = (call.result() for call in calls)
    assert (answer.status, answer.headers["x-otrta-change-msat"]) == (200, str(PAID - 85))
    assert "x-cashu" not in answer.headers
    assert stream.comments == {"otrta": f"paid={PAID} cost=85 fee=0 change={PAID - 85}"}
    for token in (plain, live):
        waiting = frail.shop.change(token)
        assert (waiting.status, waiting.json["state"]) == (202, "owed")
        assert waiting.json["change_msat"] == PAID - 85
        assert "x-cashu" not in waiting.headers
        assert "retry-after" in waiting.headers
    set_aside(frail, "gone", "available")
    for token in (plain, live):
        left = frail.shop.wait_until_over(token)
        assert left.change is not None
        assert left.change.amount == PAID - 85


def test_what_ran_when_the_gateway_was_killed_is_claimable(frail: Frail) -> None:
    plain, live, untaken = (frail.purse.token(PAID + n) for n in range(3))
    with ThreadPoolExecutor(2) as pool:
        calls: list[Future[Reply]] = [
            pool.submit(frail.shop.buy, plain, slow(30)),
            pool.submit(frail.shop.buy, live, slow(30, stream=True), headers=SSE),
        ]
        wait_for(frail, "state = 'redeemed'", 2)
        wait_for(frail, "live_tokens > 10")
        assert not any(call.done() for call in calls)
        frail.running.kill()
        assert all(call.exception() is not None for call in calls)
    frail.start()
    for token, cost in ((plain, range(1)), (live, range(50, 600))):
        left = frail.shop.wait_until_over(token)
        assert left.json["state"] == "settled"
        assert left.json["cost_msat"] in cost
        assert left.json["cost_msat"] + left.json["change_msat"] == token.amount
        assert left.change is not None
        assert frail.purse.spend(left.change).amount == left.json["change_msat"]
    assert frail.shop.buy(untaken).status == 200


def test_what_waited_for_a_swap_when_the_gateway_was_killed_is_claimable(frail: Frail) -> None:
    """One token is being swapped, others wait to go together, and a locked one counts as paid already."""
    key = frail.shop.info()["lock"]["pubkey"]
    queued = [frail.purse.token(PAID + n) for n in range(6)]
    paid = frail.purse.token(PAID, dleq=True, secret=locked(key))
    frail.proxy.spoil("swap", Fault("held", silent_s=20))
    with ThreadPoolExecutor(7) as pool:
        calls = [pool.submit(frail.shop.buy, token) for token in queued]
        wait_for(frail, "state = 'redeeming'", 6)
        calls.append(pool.submit(frail.shop.buy, paid, slow(30)))
        wait_for(frail, "state = 'redeemed'")
        frail.running.kill()
        assert all(call.exception() is not None for call in calls)
    frail.proxy.reset()
    frail.start()
    for token in (*queued, paid):
        left = frail.shop.wait_until_over(token)
        assert (left.json["cost_msat"], left.json["change_msat"]) == (0, token.amount)
        assert left.change is not None
        assert frail.purse.spend(left.change).amount == token.amount
        assert frail.purse.states(token) == {"SPENT"}


def test_a_swap_for_many_whose_answer_is_lost_pays_for_each(frail: Frail) -> None:
    spent, good = frail.purse.token(PAID), [frail.purse.token(PAID + n) for n in range(5)]
    frail.proxy.spoil("swap", Fault("held", silent_s=1.5), DROPPED)
    with ThreadPoolExecutor(7) as pool:
        first = pool.submit(frail.shop.buy, frail.purse.token(PAID))
        wait_for(frail, "state = 'redeeming'")
        frail.purse.spend(spent)
        refused = pool.submit(frail.shop.buy, spent)
        served = [pool.submit(frail.shop.buy, token) for token in good]
        assert first.result().sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
        for token, call in zip(good, served, strict=True):
            assert call.result().sums == (token.amount, COST_MSAT, 0, token.amount - COST_MSAT)
        assert refused.result().code == "token_already_spent"


def test_a_gateway_that_is_told_to_stop_finishes_its_calls(frail: Frail) -> None:
    plain, live = frail.purse.token(PAID), frail.purse.token(PAID)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(frail.shop.buy, plain, slow(2)),
            pool.submit(frail.shop.buy, live, slow(2, stream=True), headers=SSE),
        ]
        wait_for(frail, "state = 'redeemed'", 2)
        frail.running.stop()
        answer, stream = (call.result() for call in calls)
    assert answer.sums == (PAID, 110, 0, PAID - 110)
    assert stream.text == " w" * 20
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert stream.comments["otrta"] == f"paid={PAID} cost=110 fee=0 change={PAID - 110}"
    for change in (answer.change, Token.parse(stream.comments["x-cashu"])):
        assert change is not None
        assert change.amount == PAID - 110
        assert frail.purse.states(change) == {"UNSPENT"}


def test_after_all_that_everything_adds_up(frail: Frail) -> None:
    connection = sqlite3.connect(f"file:{frail.home}/gateway.sqlite3?mode=ro", uri=True)
    over = "('settled', 'claimed', 'rejected')"
    unfinished, uneven, swaps = (
        connection.execute(f"select count(*) from {query}").fetchone()[0]
        for query in (
            f"payments where change_due or state not in {over}",
            "payments where paid_msat <> cost_msat + fee_msat + change_msat",
            "history where kind = 'swap'",
        )
    )
    held = connection.execute(
        "select y from proofs where status = 'available' and mint = ?", (frail.proxy.url,)
    )
    assert set(frail.purse.states_of(row[0] for row in held.fetchall())) == {"UNSPENT"}
    connection.close()
    assert (unfinished, uneven, swaps) == (0, 0, 0)
    assert holdings_msat(str(frail.home)) == earnings_msat(str(frail.home)) > 0
    log = frail.running.log.read_text(errors="replace")
    handled = [*frail.purse.handled, *frail.mortal_purse.handled, *frail.shop.handled]
    assert [text[:12] for text in handled if text in log] == []
    assert [word for word in ("gate_failed", "settlement_failed", "upkeep_failed") if word in log] == []
