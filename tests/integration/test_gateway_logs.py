"""All that a gateway's process wrote, LiteLLM at its most talkative, holds no secret that it handled."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from otrta_cli.processes import MASTER_KEY, Running, config_dir, free_port, start_gateway
from otrta_litellm.schema import payments
from otrta_litellm.settings import store_url
from otrta_wallet.database import open_engine
from otrta_wallet.schema import proofs
from otrta_wallet.seed import words_of
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop, chat

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

PAID = 20_000


class Talkative:
    """A gateway that logs all it can, and can be killed and started again."""

    def __init__(self, home: Path, mint: str, upstream: str) -> None:
        self.home, self.log, self._port = home / "gateway", home / "gateway.log", free_port()
        self._mint, self._upstream = mint, upstream
        self.start()

    def start(self) -> None:
        self.part: Running = start_gateway(
            self.home,
            self._port,
            config=config_dir() / "litellm.yaml",
            upstream_url=self._upstream,
            mints=self._mint,
            log=self.log,
            env={
                "OTRTA_GATEWAY_LOG_FORMAT": "json",
                "OTRTA_GATEWAY_LOG_LEVEL": "debug",
                "LITELLM_LOG": "DEBUG",
            },
            options=["--detailed_debug"],
        )


@pytest.fixture
def talkative(tmp_path: Path, mint: Running, upstream: Running) -> Iterator[Talkative]:
    found = Talkative(tmp_path, mint.url, upstream.url)
    yield found
    found.part.stop()


def held_secrets(home: Path) -> list[str]:
    """The seed, and what stands in the store that could be spent."""
    engine = open_engine(store_url(str(home)))
    try:
        with engine.begin() as conn:
            changes = [row[0] for row in conn.execute(select(payments.c.change_token)) if row[0]]
            secrets = [row[0] for row in conn.execute(select(proofs.c.secret)) if row[0]]
            words = words_of(conn, 0.0)
    finally:
        engine.dispose()
    assert len(words.split()) == 12
    assert len(secrets) > 10
    return [*changes, *secrets, words]


def test_nothing_that_could_be_spent_or_opened_is_written(
    talkative: Talkative, purse: Purse, upstream: Running
) -> None:
    creqs: list[str] = []
    with Shop(talkative.part.url, upstream.url) as shop:
        taken = purse.token(PAID, memo="a memo that only its payer knows")
        assert shop.buy(taken).sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
        shop.buy(taken)
        shop.change(taken)
        for body in (
            chat(stream=True),
            chat("demo-500"),
            chat("demo-429"),
            chat("demo-cut", stream=True),
            chat("demo-badjson"),
            chat("demo-nousage"),
            chat("demo-datatext"),
            chat(n=-1),
            chat("no-such-model"),
        ):
            shop.buy(purse.token(PAID), body)
            shop.buy(purse.token(PAID), body, headers={"X-Cashu-Change": "sse"})
        spent = purse.token(PAID)
        purse.spend(spent)
        assert shop.buy(spent).code == "token_already_spent"
        shop.buy(purse.token(5))
        shop.buy(purse.token(PAID).encode()[:-40])
        shop.buy(purse.token(PAID), path="/v1/files")
        shop.buy(purse.token(PAID), path=f"/v1/chat/completions?token={purse.token(7).encode()}")
        creqs.append(shop.ask().headers["x-cashu"])
        keyed = shop.ask(headers={"Authorization": f"Bearer {MASTER_KEY}"})
        assert keyed.status == 200
        shop.ask(headers={"Authorization": "Bearer sk-of-a-stranger"})
        dying = purse.token(PAID)

        def call() -> None:
            with suppress(httpx.HTTPError), Shop(talkative.part.url, upstream.url) as other:
                other.buy(dying, chat("demo-slow", stream=True), headers={"X-Cashu-Change": "sse"})

        thread = threading.Thread(target=call)
        thread.start()
        shop.wait_until_taken(dying)
        talkative.part.kill()
        thread.join()
        talkative.start()
        found = shop.wait_until_over(dying).json
        assert found["paid_msat"] == PAID == found["cost_msat"] + found["fee_msat"] + found["change_msat"]
        handled = [*purse.handled, *shop.handled]
    written = talkative.log.read_text(errors="replace")
    talkative.part.stop()
    assert "LiteLLM" in written
    assert len(written) > 100_000, "LiteLLM was not talkative"
    events = [json.loads(line) for line in written.splitlines() if line.startswith('{"')]
    assert {event.get("event") for event in events} >= {"payment_settled"}
    secrets = [*handled, *creqs, *held_secrets(talkative.home), MASTER_KEY, "sk-of-a-stranger"]
    assert len(secrets) > 200
    assert [text[:10] for text in secrets if text in written or text[6:120] in written] == []
    assert "a memo that only its payer knows" not in written
