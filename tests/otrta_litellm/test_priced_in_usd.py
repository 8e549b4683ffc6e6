"""A gateway whose rate comes from feeds: what is priced in USD is sold only while the rate is fresh."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from sqlalchemy import update

from otrta_cli.processes import Running
from otrta_core import PaymentRequest
from otrta_litellm.gateway import Gateway
from otrta_litellm.schema import btc_rate
from tests.integration.purse import Purse
from tests.otrta_litellm.feed_server import FORMATS, FeedServer, feed_server
from tests.otrta_litellm.made_up import PAID, Caller, answers, state_of
from tests.otrta_litellm.samples import View, deployment, settings

pytestmark = pytest.mark.anyio

USD = json.dumps({"model": "usd", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}).encode()
OWN = USD.replace(b'"usd"', b'"own"')


def gateway_of(directory: Path, mint: str, feeds: dict[str, FeedServer]) -> Gateway:
    view = View(
        usd=[deployment("usd", input_per_token="0.000001", output_per_token="0.000005")],
        own=[deployment("own")],
    )
    asked = [{"format": name, "url": server.url} for name, server in feeds.items()]
    values = settings(
        store=str(directory),
        mints=[mint],
        prices={"own": {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}},
        btc_usd={"feeds": asked},
    )
    return Gateway(values, view)  # type: ignore[arg-type]


async def test_without_a_fresh_rate_nothing_is_taken_and_the_operators_table_goes_on(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    with ExitStack() as stack:
        feeds = {name: stack.enter_context(feed_server(name, "100000")) for name in FORMATS}
        gateway = gateway_of(tmp_path, mint.url, feeds)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.run)
            wallet = await gateway.wallet()
            asked = await Caller(None, body=USD).call(answers(), gateway)
            wanted = PaymentRequest.parse(asked.told[b"x-cashu"].decode()).amount
            assert asked.status == 402
            assert wanted == json.loads(asked.content)["error"]["required_msat"]
            paid = await Caller(purse.token(wanted or 0), body=USD).call(answers(), gateway)
            assert paid.sums == (wanted, 110, 0, (wanted or 0) - 110)

            def grow_old(conn: object, now: float) -> None:
                conn.execute(update(btc_rate).values(at=now - 601, polled_at=now))  # type: ignore[attr-defined]

            await wallet.transactions.run(grow_old)
            await gateway.prices.refresh(wallet.transactions)
            gateway.prices._rows = tuple(r for r in gateway.prices._rows if r.source == "config")
            token = purse.token(PAID)
            for offered in (None, token):
                refused = await Caller(offered, body=USD).call(answers(), gateway)
                assert (refused.status, refused.code) == (503, "price_unavailable")
                assert b"retry-after" in refused.told
            assert purse.states(token) == {"UNSPENT"}
            assert await state_of(gateway, token) is None
            assert (await Caller(token, body=OWN).call(answers(), gateway)).sums[1] == 110
            info = await Caller(None, "/v1/cashu/info", "GET").call(answers(), gateway)
            shown = json.loads(info.content)
            assert [model["id"] for model in shown["models"]] == ["own"]
            assert 0 < shown["prices_until"] - time.time() <= 300
            tasks.cancel_scope.cancel()
