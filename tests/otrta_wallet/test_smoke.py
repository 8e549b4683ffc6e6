import pytest
from otrta_core import Token
from tests.otrta_wallet.conftest import top_up
pytestmark = pytest.mark.anyio

async def test_x(alice, bob, mint):
    await top_up(alice, mint.url, 1000)
    t = await alice.send(mint.url, 300, "msat")
    op = await bob.receive(Token.parse(t.token))
    print(op, await bob.balances(), await alice.balances(), await alice.recover(), await alice.balances())
