"""Workers in two gateways on one PostgreSQL store, as on two machines; workers are killed at work."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from sqlalchemy import text

from otrta_cli.processes import MASTER_KEY, Running, config_dir, free_port, start_gateway
from otrta_core import Token
from otrta_litellm.gateway import VERSION_TABLE
from otrta_litellm.ledger import earnings_msat, holdings_msat
from otrta_wallet import Wallet
from otrta_wallet.database import open_engine
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, Reply, Shop
from tests.integration.slow_upstream import slow_upstream
from tests.parts import kept_running
from tests.payee import invoice
from tests.postgres import Server

pytestmark = pytest.mark.integration

WORKERS = 4 if os.environ.get("OTRTA_LONG") == "1" else 2
PAID = 100_000
GIVEN = 50_000
MODEL = "demo-slow"


@dataclass
class Crew:
    """Two gateways, the first with several workers.

    Attributes:
        pair: the one with several workers.
        single: the other; it is asked what became of calls.
        store: the store of both.
        restart: starts the single one again.
        killed: how many workers of the pair were killed.
    """

    pair: Running
    single: Running
    store: str
    restart: Callable[[], Running]
    killed: int = 0

    def rows(self, query: str, **values: object) -> list[Any]:
        """Read the store."""
        engine = open_engine(self.store)
        try:
            with engine.begin() as conn:
                return list(conn.execute(text(query), values))
        finally:
            engine.dispose()

    def wait_for(self, query: str, **values: object) -> Any:
        """Wait until a query has a row."""
        deadline = time.monotonic() + 120
        while not (found := self.rows(query, **values)):
            assert time.monotonic() < deadline, query
            time.sleep(0.05)
        return found[0]

    def wait_for_workers(self) -> None:
        """Wait until each worker that was killed has been replaced."""
        deadline = time.monotonic() + 180
        while self.pair.log.read_text().count("Application startup complete") < WORKERS + self.killed:
            assert self.pair.alive
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def payment_of(self, token: Token, state: str, condition: str = "true") -> Any:
        """Wait until a token's payment is in a state."""
        return self.wait_for(
            "select payments.* from payments join payment_proofs on payment_id = id "
            f"where y = :y and state = :state and {condition}",
            y=token.proofs[0].Y,
            state=state,
        )


@pytest.fixture(scope="module")
def crew(parts_home: Path, postgres: Server, mint: Running) -> Iterator[Crew]:
    store = postgres.url(postgres.create())
    with slow_upstream() as upstream:
        ports = {"pair": free_port(), "single": free_port()}

        def start(name: str, *options: str) -> Running:
            return start_gateway(
                parts_home / name,
                ports[name],
                config=config_dir() / "litellm.yaml",
                upstream_url=upstream,
                mints=mint.url,
                log=parts_home / f"logs/{name}.log",
                env={"OTRTA_GATEWAY_STORE": store, "OTRTA_GATEWAY_PAYOUT": '{"keep_msat": 0}'},
                options=options,
                wait=False,
            )

        log = parts_home / "logs/pair.log"
        several = ("--num_workers", str(WORKERS), "--timeout_worker_healthcheck", "120")
        with (
            kept_running(log, lambda: start("pair", *several)) as pair,
            kept_running(parts_home / "logs/single.log", lambda: start("single")) as single,
        ):
            pair.wait_ready()
            single.wait_ready()
            started = [single]

            def restart() -> Running:
                started[-1].kill()
                started.append(start("single"))
                started[-1].wait_ready()
                return started[-1]

            try:
                yield Crew(pair, single, store, restart)
            finally:
                started[-1].stop()


@pytest.fixture
def other(crew: Crew, upstream: Running) -> Iterator[Shop]:
    """The gateway that does not run the call."""
    with Shop(crew.single.url, upstream.url) as shop:
        yield shop


def lasting(seconds: float, **fields: Any) -> dict[str, Any]:
    """The body of a call that the upstream takes so long for."""
    return {"model": MODEL, "messages": [{"role": "user", "content": str(seconds)}], **fields}


class Call:
    """A call to the gateway with several workers, over a connection of its own."""

    def __init__(self, crew: Crew, token: Token, body: dict[str, Any], **headers: str) -> None:
        crew.wait_for_workers()
        self._crew, self._pair = crew, crew.pair
        self._connection = http.client.HTTPConnection("127.0.0.1", crew.pair.port, timeout=60)
        self._connection.connect()
        sent = {"X-Cashu": token.encode(), "Content-Type": "application/json", **headers}
        self._connection.request("POST", CHAT, json.dumps(body), sent)

    def kill_its_worker(self) -> None:
        """Kill the process that has this connection."""
        pid = self._worker()
        os.kill(pid, signal.SIGKILL)
        self._crew.killed += 1

    def hang_up(self) -> None:
        self._connection.close()

    def answer(self) -> bytes:
        """What comes until the end, however it comes."""
        try:
            with self._connection.getresponse() as response:
                return response.read()
        except http.client.IncompleteRead as cut:
            return cut.partial
        except (http.client.HTTPException, OSError):
            return b""
        finally:
            self._connection.close()

    def _worker(self) -> int:
        here = self._connection.sock.getsockname()[1]
        ends = (f":{self._pair.port:04X}", f":{here:04X}")
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        [inode] = [line[9] for line in lines if line[1].endswith(ends[0]) and line[2].endswith(ends[1])]
        [pid] = [pid for pid in workers_of(self._pair) if f"socket:[{inode}]" in open_files(pid)]
        return pid


def operate(url: str, action: str, **asked: object) -> httpx.Response:
    """Tell a gateway to do something, as its operator."""
    key = {"Authorization": f"Bearer {MASTER_KEY}"}
    return httpx.post(f"{url}/v1/cashu/admin/{action}", json=asked, headers=key, timeout=60)


def give(crew: Crew, token: Token) -> None:
    """Put a token into the store, as one more of its processes."""

    async def receive() -> None:
        async with Wallet.open(crew.store, migrations=[("otrta_litellm", VERSION_TABLE)]) as wallet:
            await wallet.receive(token)

    anyio.run(receive)


def workers_of(gateway: Running) -> list[int]:
    """The processes that a gateway has started."""
    return [int(pid) for pid in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()]


def open_files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:  # closed meanwhile
            continue
    return found


def change_from_everywhere(crew: Crew, other: Shop, token: Token) -> Reply:
    """What the change route says, which is the same wherever it is asked."""
    with Shop(crew.pair.url, other.upstream) as pair:
        said = [other.wait_until_over(token), pair.change(token)]
    assert said[0].body == said[1].body
    assert said[0].headers["x-cashu"] == said[1].headers["x-cashu"]
    return said[0]


def samples_of(crew: Crew) -> list[Sample]:
    """What Prometheus reads at whichever worker of the pair answers."""
    key = {"Authorization": f"Bearer {MASTER_KEY}"}
    text = httpx.get(f"{crew.pair.url}/v1/cashu/metrics", headers=key, timeout=60).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def figures(crew: Crew) -> dict[str, int]:
    """The sums of all payments that are over."""
    samples = samples_of(crew)
    msat = {s.labels["kind"]: int(s.value) for s in samples if s.name == "otrta_msat_total"}
    served = sum(int(s.value) for s in samples if s.labels.get("outcome") == "served")
    return {**msat, "served": served}


def refused_by_worker(crew: Crew) -> dict[str, int]:
    """How many calls each worker has not served."""
    found: dict[str, int] = {}
    deadline = time.monotonic() + 60
    while len(found) < WORKERS:
        assert time.monotonic() < deadline, found
        samples = samples_of(crew)
        [worker] = {s.labels["worker"] for s in samples if "worker" in s.labels}
        found[worker] = sum(int(s.value) for s in samples if s.name == "otrta_refused_total")
    return found


def test_a_call_whose_worker_is_killed_costs_nothing_and_its_change_is_anywhere(
    crew: Crew, other: Shop, purse: Purse
) -> None:
    token = purse.token(PAID)
    call = Call(crew, token, lasting(30))
    owner = crew.payment_of(token, "redeemed").owner
    assert other.change(token).json["state"] == "redeemed"
    call.kill_its_worker()
    assert call.answer() == b""
    found = change_from_everywhere(crew, other, token)
    assert (found.json["state"], found.json["cost_msat"], found.json["change_msat"]) == ("settled", 0, PAID)
    assert found.change is not None
    assert (found.change.amount, purse.states(found.change)) == (PAID, {"UNSPENT"})
    settled = crew.payment_of(token, "settled")
    assert settled.owner != owner
    assert settled.lease >= 1
    purse.spend(found.change)
    assert other.change(token).json["state"] == "claimed"


def test_a_live_stream_whose_worker_is_killed_costs_what_was_noted_of_it(
    crew: Crew, other: Shop, purse: Purse
) -> None:
    token = purse.token(PAID)
    call = Call(crew, token, lasting(30, stream=True), **{"X-Cashu-Change": "sse"})
    noted = crew.payment_of(token, "redeemed", "live_tokens > 0").live_tokens
    call.kill_its_worker()
    delivered = call.answer()
    assert b" w" in delivered
    assert b"x-cashu" not in delivered
    found = change_from_everywhere(crew, other, token)
    cost, change = found.json["cost_msat"], found.json["change_msat"]
    assert cost >= 5 * noted > 0
    assert cost <= 5 * delivered.count(b" w") + 1000
    assert cost + change == PAID
    assert found.change is not None
    assert (found.change.amount, purse.states(found.change)) == (change, {"UNSPENT"})


def test_a_token_sent_many_times_to_both_gateways_is_served_once(
    crew: Crew, other: Shop, purse: Purse
) -> None:
    crew.wait_for_workers()
    token = purse.token(PAID)
    with Shop(crew.pair.url, other.upstream) as pair, ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda n: (pair, other)[n % 2].buy(token, lasting(0.3)), range(50)))
    served = [reply for reply in replies if reply.status == 200]
    assert len(served) == 1
    others = [reply for reply in replies if reply.status != 200]
    assert {(reply.status, reply.code) for reply in others} <= {
        (409, "token_pending"),
        (400, "token_already_spent"),
    }
    told = [reply for reply in others if reply.code == "token_already_spent"]
    assert {reply.headers["x-cashu"] for reply in (*served, *told)} == {served[0].headers["x-cashu"]}
    assert crew.rows(
        "select count(distinct id) from payments join payment_proofs on payment_id = id where y = :y",
        y=token.proofs[0].Y,
    )[0] == (1,)


def test_calls_are_served_by_every_worker_and_add_up(crew: Crew, purse: Purse) -> None:
    crew.wait_for_workers()
    tokens = [purse.token(PAID + n) for n in range(8 * WORKERS)]
    before, refused_before = figures(crew), refused_by_worker(crew)
    with ThreadPoolExecutor(len(tokens)) as pool:
        calls = list(pool.map(lambda token: Call(crew, token, lasting(1.0)), tokens))
        answers = list(pool.map(Call.answer, calls))
        refused = list(pool.map(lambda _: httpx.post(crew.pair.url + CHAT, json=lasting(1)), tokens))
    assert [len(json.loads(answer)["choices"]) for answer in answers] == [1] * len(tokens)
    assert {reply.status_code for reply in refused} == {402}
    settled = [crew.payment_of(token, "settled") for token in tokens]
    assert len({payment.owner for payment in settled}) == WORKERS
    # 10 tokens in, and out a word for each tenth of a second
    cost = 10 + 10 * 5
    assert {payment.cost_msat for payment in settled} == {cost}
    after = figures(crew)
    gained = {name: after[name] - before[name] for name in after}
    paid, cost = sum(token.amount for token in tokens), cost * len(tokens)
    assert gained == {
        "paid": paid,
        "cost": cost,
        "fee": 0,
        "change": paid - cost,
        "excess": 0,
        "served": len(tokens),
    }
    refused_after = refused_by_worker(crew)
    assert sum(refused_after.values()) - sum(refused_before.values()) == len(tokens)


def test_the_change_of_a_lost_answer_is_there_after_a_restart(crew: Crew, other: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    call = Call(crew, token, lasting(1.0))
    crew.payment_of(token, "redeemed")
    call.hang_up()
    cost = crew.payment_of(token, "settled").cost_msat
    restarted = crew.restart()
    with Shop(restarted.url, other.upstream) as shop:
        found = shop.change(token)
        assert (found.status, found.json["cost_msat"], found.json["change_msat"]) == (200, cost, PAID - cost)
        assert found.change is not None
        assert (found.change.amount, purse.states(found.change)) == (PAID - cost, {"UNSPENT"})
        assert cost > 0
        again = shop.buy(token, lasting(0.1))
        assert (again.status, again.code) == (400, "token_already_spent")
        assert again.headers["x-cashu"] == found.headers["x-cashu"]


def test_a_payout_that_two_gateways_begin_is_paid_once(crew: Crew, other: Shop, purse: Purse) -> None:
    give(crew, purse.token(GIVEN))
    both = (crew.pair.url, other.url)
    to_pay = operate(both[0], "payout/offer", to=invoice(20_000)).json()
    to_hand_out = operate(both[1], "payout/offer", to="token", amount_msat=10_000).json()
    for offered in (to_pay, to_hand_out):
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: operate(both[n % 2], "payout/pay", id=offered["id"]), range(8)))  # noqa: B023
        # 402: what the first has in hand looks like too little to the next
        assert {reply.status_code for reply in replies} <= {200, 402, 409}
        assert [operate(url, "payout/pay", id=offered["id"]).json()["state"] for url in both] == ["paid"] * 2
    tokens = {reply.json()["token"] for reply in replies if reply.status_code == 200}
    assert len(tokens) == 1
    assert crew.rows("select count(*) from operations where kind = 'melt'") == [(1,)]
    assert crew.rows("select count(*) from transfers") == [(1,)]
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(lambda n: operate(both[n % 2], "payout/cancel", id=to_hand_out["id"]), range(8))
        assert {reply.status_code for reply in asked} <= {200, 409}
    assert purse.states(Token.parse(tokens.pop())) == {"SPENT"}
    assert {(row.state, row.amount_msat) for row in crew.rows("select * from payouts")} == {
        ("paid", 20_000),
        ("cancelled", 10_000),
    }


def test_nothing_was_lost_on_the_way(crew: Crew, purse: Purse) -> None:
    settled = crew.rows(
        "select paid_msat, cost_msat, fee_msat, change_msat from payments where cost_msat >= 0"
    )
    assert len(settled) >= 4
    assert [row for row in settled if row[0] != row[1] + row[2] + row[3]] == []
    left_open = "select id from payments where change_due or state in ('received', 'redeeming', 'redeemed')"
    assert crew.rows(left_open) == []
    earned = earnings_msat(crew.store)
    assert earned > 0
    [(paid_out,)] = crew.rows("select sum(amount_msat + fee_msat) from payouts where state = 'paid'")
    assert holdings_msat(crew.store) == earned + GIVEN - paid_out
    # who came second to a payout has set proofs aside for it, for two minutes
    held = crew.rows("select y, amount from proofs where status in ('available', 'held')")
    assert sum(row.amount for row in held) == earned + GIVEN - paid_out
    assert set(purse.states_of(row.y for row in held)) == {"UNSPENT"}
