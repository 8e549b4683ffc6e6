"""What the page's forms do with money: what the commands do, once, and without a secret in any address."""

import re

import httpx
import pytest
import trio

from otrta_core import Token
from otrta_wallet import MintUnreachable
from proxy_trio.actions import act
from proxy_trio.page.qr import LONGEST, qr_svg
from tests.integration.purse import Purse

pytestmark = pytest.mark.trio


def hidden(text, number=0):
    found = re.findall(r'name="csrf" value="([^"]+)"><input type="hidden" name="once" value="([^"]+)"', text)
    return dict(zip(("csrf", "once"), found[number], strict=True))


async def fund(alice, mint, msat=50_000):
    await alice.client.wallet.mints.add(mint.url)
    quote = await alice.client.wallet.request_invoice(mint.url, msat, "msat")
    await alice.client.wallet.claim_quote(quote.id)
    await alice.log_in()


async def total(alice):
    return (await act(alice.client, "balance", {}))["total_msat"]


async def test_a_form_that_is_sent_twice_is_carried_out_once(visitor, tmp_path, mint):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        fields = {**hidden((await alice.look("send")).text), "amount": "3"}
        first = await alice.send("send", **fields)
        again = await alice.send("send", **fields)
        assert (first.status_code, again.status_code) == (303, 303)
        assert first.headers["location"] == again.headers["location"]
        assert len(await alice.client.wallet.transfers()) == 1


async def test_a_form_that_is_sent_twice_at_once_is_carried_out_once(visitor, tmp_path, mint):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        fields = {**hidden((await alice.look("send")).text), "amount": "3"}
        answers: list[httpx.Response] = []

        async def press() -> None:
            answers.append(await alice.send("send", **fields))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(press)
        assert {answer.status_code for answer in answers} == {303}
        assert len(await alice.client.wallet.transfers()) == 1


async def test_a_form_that_was_refused_can_be_sent_again(visitor, tmp_path, mint):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        refused = await alice.fill_in("send", amount="51", memo="<b>note</b>")
        assert refused.status_code == 402
        assert 'value="51"' in refused.text
        assert "<b>" not in refused.text
        again = await alice.send("send", **{**hidden(refused.text), "amount": "50"})
        assert again.status_code == 303
        assert await total(alice) == 50_000


async def test_no_address_and_no_later_page_has_a_tokens_text_or_a_quotes_id(visitor, tmp_path, mint):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        made = await alice.fill_in("send", amount="3")
        place = made.headers["location"].removeprefix(alice.base)
        shown = (await alice.look(place)).text
        token = re.search(r"cashuB[\w=-]+", shown)[0]
        assert Token.parse(token).amount == 3_000
        invoice = await alice.fill_in("topup", amount="9")
        (quote,) = await alice.client.wallet.quotes("open", "minting")
        addresses = [made.headers["location"], invoice.headers["location"]]
        places = [place, "send", "activity", "pending", "topup", addresses[1].removeprefix(alice.base)]
        pages = [(await alice.look(each)).text for each in places]
        assert not any(token in text or quote.id in text for text in [*addresses, *pages])


async def test_an_invoice_tells_how_it_stands(visitor, tmp_path, mint):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        asked = await alice.fill_in("topup", amount="9")
        place = asked.headers["location"].removeprefix(alice.base)
        waiting = (await alice.look(place)).text
        assert ("Waiting for the payment." in waiting, 'class="qr"' in waiting) == (True, True)
        told = (await alice.look(f"{place}/state")).json()
        assert told == {"state": "paid", "text": "Paid: 9.000 sat are in the wallet."}
        assert "Paid." in (await alice.look(place)).text
        assert await total(alice) == 59_000
        assert (await alice.look("invoice/0123456789")).status_code == 404


async def test_a_mint_that_is_away_leaves_the_page_waiting(visitor, tmp_path, mint, monkeypatch):
    async with visitor(tmp_path) as alice:
        await fund(alice, mint)
        asked = await alice.fill_in("topup", amount="9")
        place = asked.headers["location"].removeprefix(alice.base)

        async def away(_quote_id):
            raise MintUnreachable("the mint does not answer")

        monkeypatch.setattr(alice.client.wallet, "claim_quote", away)
        assert (await alice.look(f"{place}/state")).json()["state"] == "open"


async def test_a_token_pasted_in_lines_is_received_and_conserved(visitor, tmp_path, mint):
    with Purse(mint.url) as purse:
        token = await trio.to_thread.run_sync(purse.token, 4_321)
        async with visitor(tmp_path) as alice:
            await fund(alice, mint)
            text = token.encode()
            answer = await alice.fill_in("receive", token=f" {text[:40]}\n{text[40:]}\n")
            assert answer.status_code == 303
            assert await total(alice) == 54_321
            assert await trio.to_thread.run_sync(purse.states, token) == {"SPENT"}


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("topup", {"amount": ""}),
        ("topup", {"amount": "-1"}),
        ("topup", {"amount": "1e9"}),
        ("topup", {"amount": "10", "mint": "http://127.0.0.1:9"}),
        ("receive", {"token": ""}),
        ("receive", {"token": "<script>alert(1)</script>"}),
        ("send", {"amount": "0"}),
        ("pay", {"invoice": ""}),
        ("pay", {"invoice": "lnbc1"}),
        ("limits", {"per_day_sat": "lots"}),
        ("limits", {}),
        ("keys", {"name": "<b>"}),
        ("keys", {"name": "a", "days": "0"}),
        ("keys", {"name": "a", "total_msat": "x"}),
        ("gateways", {"url": "javascript:alert(1)"}),
        ("gateways/remove", {"url": "http://127.0.0.1:9"}),
        ("mints", {"url": ""}),
    ],
)
async def test_what_is_wrong_in_a_form_is_said_on_its_page(visitor, tmp_path, place, fields):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        form_at = {"keys": "limits", "gateways/remove": "gateways", "mints": "gateways"}.get(place, place)
        answer = await alice.send(place, **hidden((await alice.look(form_at)).text), **fields)
        assert 400 <= answer.status_code < 500
        assert 'role="alert"' in answer.text
        assert re.search(r"<(script|b)>", answer.text) is None


async def test_a_code_is_drawn_for_what_a_camera_can_read_and_names_nothing_else() -> None:
    drawn = qr_svg("LNBC1", 'The "invoice" <b>')
    assert drawn is not None
    assert 'aria-label="The &#34;invoice&#34; &lt;b&gt;"' in drawn
    assert "style=" not in drawn
    assert qr_svg("x" * (LONGEST + 1), "x") is None
