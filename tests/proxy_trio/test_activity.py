"""What happened, in parts, and what calls cost by day and model."""

from datetime import datetime, timedelta

import pytest

from proxy_trio import calls
from proxy_trio.actions import act
from proxy_trio.client import open_client
from proxy_trio.client_settings import ClientSettings
from proxy_trio.schema import CallState
from tests.integration.customer import customer
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import COST_MSAT, scripted_gateway, sell

pytestmark = pytest.mark.trio


def write(conn, at, number, **values):
    row = {
        "id": f"{number:032x}",
        "gateway": "http://g",
        "model": "m",
        "stream": False,
        "mint": "http://m",
        "unit": "msat",
        "transfer_id": f"t{number}",
        "paid_msat": 500,
        "fee_msat": 0,
        "bound_msat": 500,
    }
    state = values.pop("state", CallState.DONE)
    calls.begin(conn, at, **{**row, "change_msat": 400, "cost_msat": 100, **values})
    calls.change(conn, at, row["id"], state=state)


async def test_a_call_is_told_with_its_gateway_its_tokens_and_what_it_cost(tmp_path, mint):
    with Purse(mint.url) as purse:
        async with (
            scripted_gateway(purse, sell()) as gateway,
            customer(tmp_path, gateway.url, mint=mint.url) as app,
        ):
            assert (await app.ask()).status_code == 200
            await app.until_no_call_runs()
            call, top_up = (await app.act("activity"))["entries"]
            assert {
                name: call[name] for name in ("kind", "place", "model", "state", "amount_msat", "cost_msat")
            } == {
                "kind": "call",
                "place": gateway.url,
                "model": "m",
                "state": "done",
                "amount_msat": -COST_MSAT,
                "cost_msat": COST_MSAT,
            }
            assert (call["input_tokens"], call["output_tokens"]) == (10, 20)
            assert (top_up["kind"], top_up["place"], top_up["amount_msat"]) == ("invoice", mint.url, 10_000)
            (model,) = (await app.act("spending"))["models"]
            assert (model["model"], model["total_msat"], model["by_day_msat"][-1]) == (
                "m",
                COST_MSAT,
                COST_MSAT,
            )


async def test_entries_come_in_parts_newest_first_and_none_twice(tmp_path):
    async with open_client(tmp_path, ClientSettings()) as client:

        def fill(conn, now):
            for number in range(25):
                write(conn, now - number // 2, number)

        await client.wallet.transactions.run(fill)
        parts = [await act(client, "activity", {"offset": offset, "limit": 10}) for offset in (0, 10, 20, 30)]
    assert [len(part["entries"]) for part in parts] == [10, 10, 5, 0]
    assert {part["total"] for part in parts} == {25}
    times = [entry["time"] for part in parts for entry in part["entries"]]
    assert times == sorted(times, reverse=True)
    assert len({entry["id"] for part in parts for entry in part["entries"]}) == 25


async def test_spending_is_told_by_day_and_model_dearest_first(tmp_path):
    async with open_client(tmp_path, ClientSettings()) as client:
        now = client.wallet.transactions.now()
        noon = datetime.fromtimestamp(now).replace(hour=12)
        back = [(noon - timedelta(days=days)).timestamp() for days in range(4)]

        def fill(conn, _now):
            write(conn, back[0], 1)
            write(conn, back[0], 2, model="dear", change_msat=0)
            write(conn, back[2], 3)
            write(conn, back[2], 4, change_msat=None, state=CallState.IN_FLIGHT)
            write(conn, back[1], 5, model="given back", change_msat=500, state=CallState.REFUNDED)
            write(conn, back[3], 6)

        await client.wallet.transactions.run(fill)
        told = await act(client, "spending", {"days": 3})
    assert told["days"] == [datetime.fromtimestamp(at).date().isoformat() for at in reversed(back[:3])]
    assert told["models"] == [
        {"model": "m", "total_msat": 700, "by_day_msat": [600, 0, 100]},
        {"model": "dear", "total_msat": 500, "by_day_msat": [0, 0, 500]},
    ]
