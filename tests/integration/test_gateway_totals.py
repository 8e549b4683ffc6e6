"""What must hold over everything that the gateway did in this session; named so that it runs at the end."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otrta_cli.processes import Running
from otrta_litellm.ledger import earnings_msat, holdings_msat, swaps_msat
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop, chat

pytestmark = pytest.mark.integration

MSAT = {"msat": 1, "sat": 1000}


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    """Read the gateway's store."""
    connection = sqlite3.connect(f"file:{home}/gateway.sqlite3?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_many_calls_at_once_are_each_paid_exactly(shop: Shop, purse: Purse) -> None:
    tokens = [purse.token(10_000 + n) for n in range(16)]
    bodies = [chat(stream=n % 2 == 0) if n % 4 else chat("demo-500") for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(shop.buy, tokens, bodies))
    for n, reply in enumerate(replies):
        cost = COST_MSAT if n % 4 else 0
        assert reply.status == (200 if n % 4 else 500), reply.body
        assert "x-otrta-paid-msat" in reply.headers, reply.body
        assert reply.sums == (10_000 + n, cost, 0, 10_000 + n - cost)
    changes = [reply.change for reply in replies]
    ys = [proof.Y for change in changes if change is not None for proof in change.proofs]
    assert len(set(ys)) == len(ys)
    assert set(purse.states_of(ys)) == {"UNSPENT"}


def test_every_payment_adds_up_to_the_msat(shop: Shop, purse: Purse, gateway_home: Path) -> None:
    shop.buy(purse.token(10_000))
    settled = rows(
        gateway_home,
        "select paid_msat, cost_msat, fee_msat, change_msat from payments where cost_msat is not null",
    )
    assert settled
    assert [row for row in settled if row[0] != row[1] + row[2] + row[3]] == []  # type: ignore[operator]
    assert (
        rows(gateway_home, "select id from payments where state in ('received', 'redeeming', 'redeemed')")
        == []
    )
    assert rows(gateway_home, "select id from payments where change_due") == []


def test_what_was_earned_is_what_is_held_and_the_mints_agree(
    shop: Shop, purse: Purse, fee_purse: Purse, gateway_home: Path
) -> None:
    shop.buy(purse.token(10_000))
    store = str(gateway_home)
    assert earnings_msat(store) > 0
    assert holdings_msat(store) == earnings_msat(store) + swaps_msat(store)
    for at in (purse, fee_purse):
        held = rows(
            gateway_home,
            f"select y, amount, unit from proofs where status = 'available' and mint = '{at.mint}'",
        )
        assert set(at.states_of(str(row[0]) for row in held)) <= {"UNSPENT"}
    worth = sum(
        int(str(row[0])) * MSAT[str(row[1])]
        for row in rows(
            gateway_home, "select amount, unit from proofs where status in ('available', 'held', 'reserved')"
        )
    )
    assert worth == holdings_msat(str(gateway_home))


def test_nothing_that_can_be_spent_is_in_the_logs(
    shop: Shop, purse: Purse, fee_purse: Purse, gateway: Running, upstream: Running, gateway_home: Path
) -> None:
    token = purse.token(10_000)
    served = shop.buy(token)
    assert served.change is not None
    log = gateway.log.read_text(errors="replace") + upstream.log.read_text(errors="replace")
    assert "POST /v1/chat/completions" in log
    handled = [*purse.handled, *fee_purse.handled, *shop.handled]
    assert len(handled) > 10
    assert [text[:12] for text in handled if text in log or text[6:120] in log] == []
    assert "cashuB" not in log.replace("cashuBnot-a-token", "")
    words = rows(gateway_home, "select value from settings where name = 'seed_words'")[0][0]
    assert str(words) not in log
    secrets = {str(row[0]) for row in rows(gateway_home, "select secret from proofs")}
    assert [secret[:4] for secret in secrets if secret in log] == []


def test_the_gateway_logs_no_traceback(gateway: Running) -> None:
    log = gateway.log.read_text(errors="replace")
    assert "gate_failed" not in log
    assert "settlement_failed" not in log
    assert "upkeep_failed" not in log


def test_what_is_claimed_is_erased(shop: Shop, purse: Purse, gateway_home: Path) -> None:
    token = purse.token(10_000)
    served = shop.buy(token)
    assert served.change is not None
    purse.spend(served.change)
    assert shop.change(token).json["state"] == "claimed"
    ys = ", ".join(f"'{proof.Y}'" for proof in served.change.proofs)
    assert rows(gateway_home, f"select y from proofs where y in ({ys})") == []
    texts = rows(gateway_home, "select change_token from payments where change_token is not null")
    assert served.headers["x-cashu"] not in {row[0] for row in texts}
