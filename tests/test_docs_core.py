"""What docs/core.md shows is run, in its order; the server too, against the real mint."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from otrta_cli.processes import Running, free_port
from otrta_core import PaymentRequest, Token
from otrta_wallet import Wallet
from tests.otrta_wallet.reckoning import top_up

PAGE = (Path(__file__).parents[1] / "docs/core.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHOP = re.findall(r"```python file=shop\.py\n(.*?)```", PAGE, re.DOTALL)
PURSE, PRICE = 2_000, 300


def test_the_examples_hold() -> None:
    assert len(EXAMPLES) >= 7
    names: dict[str, object] = {}
    for number, code in enumerate(EXAMPLES):
        assert "assert" in code
        exec(compile(code, f"docs/core.md, example {number}", "exec"), names)


def test_the_server_is_as_short_as_the_page_says() -> None:
    assert len([line for line in SHOP[0].splitlines() if line.strip()]) <= 32


@pytest.fixture
def shop(tmp_path: Path, mint: Running):
    (tmp_path / "shop.py").write_text(SHOP[0], "utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--log-level", "warning"]
    environment = {"MINT": mint.url, "STORE": f"sqlite:///{tmp_path}/shop.sqlite3"}
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(command, cwd=tmp_path, env=environment | {"PYTHONPATH": root}) as process:
        yield f"http://127.0.0.1:{port}/fortune"
        process.send_signal(signal.SIGINT)


def test_the_server_charges_and_gives_change(tmp_path: Path, mint: Running, shop: str) -> None:
    anyio.run(buy, tmp_path, mint.url, shop)


async def buy(tmp_path: Path, mint: str, shop: str) -> None:
    async with (
        httpx.AsyncClient(timeout=30) as http,
        Wallet.open(f"sqlite:///{tmp_path}/customer.sqlite3") as wallet,
    ):
        asked = await first_answer(http, shop)
        assert asked.status_code == 402
        wanted = PaymentRequest.parse(asked.headers["x-cashu"])
        assert (wanted.amount, wanted.unit) == (PRICE, "msat")
        await wallet.mints.add(wanted.mints[0])
        await top_up(wallet, mint, PURSE)

        async def pay(token: str) -> httpx.Response:
            return await http.get(shop, headers={"X-Cashu": token})

        small = (await wallet.send(mint, PRICE - 1, "msat")).token
        assert (await pay(small)).status_code == 400
        await wallet.receive(Token.parse(small))  # it was not touched

        large = (await wallet.send(mint, 1_000, "msat")).token
        bought = await pay(large)
        assert (bought.status_code, "msat" in bought.json()["fortune"]) == (200, True)
        change = Token.parse(bought.headers["x-cashu"])
        assert change.amount == 1_000 - PRICE
        assert (await pay(large)).status_code == 400  # spent
        assert (await pay("cashuBnonsense")).status_code == 400
        await wallet.receive(change)
        assert [b.available for b in await wallet.balances()] == [PURSE - PRICE]


async def first_answer(http: httpx.AsyncClient, shop: str) -> httpx.Response:
    with anyio.fail_after(60):
        while True:
            try:
                return await http.get(shop)
            except httpx.ConnectError:  # it is still starting
                await anyio.sleep(0.1)
