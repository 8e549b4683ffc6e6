"""The wallet's actions do what they say, refuse what they must, and tell the user what to do next."""

from contextlib import asynccontextmanager

import pytest
import trio
from sqlalchemy import text

from otrta_core import AmountError, InvalidRequest, OtrtaError, Token
from otrta_wallet import MintNotKnown, NotEnoughFunds, OutcomeUnknown, TokenSpent, WalletError
from otrta_wallet.mint_client import MintClient
from proxy_trio.actions import act
from proxy_trio.client import open_client
from proxy_trio.client_settings import ClientSettings
from proxy_trio.errors import ActionInvalid, ActionUnknown, GatewayFailure, MintInUse
from proxy_trio.gateways import GatewayNotKnown
from tests.integration.customer import HI, QUOTE_MSAT, customer
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import scripted_gateway, sell
from tests.otrta_wallet.lightning import LIGHTNING_FEE, RESERVE_MSAT, strangers_invoice

pytestmark = pytest.mark.trio


@asynccontextmanager
async def empty(home, **settings):
    async with open_client(home, ClientSettings.model_validate(settings)) as client:
        yield client


@pytest.fixture
def purse(mint):
    with Purse(mint.url) as purse:
        yield purse


async def test_an_unknown_action_is_told_which_ones_there_are(tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises(ActionUnknown, match="gateways_trust"):
            await act(client, "drain", {})


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("balance", {"x": 1}),
        ("balance", []),
        ("balance", None),
        ("receive", {}),
        ("receive", {"token": ""}),
        ("receive", {"token": 7}),
        ("receive", {"token": "c" * (1 << 20) + "c"}),
        ("send", {}),
        ("send", {"amount_msat": 0}),
        ("send", {"amount_msat": -1}),
        ("send", {"amount_msat": 1.5}),
        ("send", {"amount_msat": "10"}),
        ("send", {"amount_msat": True}),
        ("send", {"amount_msat": 2**63}),
        ("send", {"amount_msat": 1, "unit": "usd"}),
        ("send", {"amount_msat": 1, "at_least": 1}),
        ("send", {"amount_msat": 1, "memo": ""}),
        ("pay_quote", {"invoice": ""}),
        ("pay_quote", {"invoice": "l" * 8193}),
        ("pay_quote", {"invoice": "lnbc", "again": 1}),
        ("pay", {}),
        ("pay", {"quote_id": "../swap"}),
        ("pay_status", {"quote_id": "a b"}),
        ("send", {"amount_msat": 1, "memo": "m" * 1001}),
        ("sent", {"id": "abcdef"}),
        ("sent_show", {}),
        ("sent_show", {"id": "abcde"}),
        ("sent_cancel", {"id": "%" * 8}),
        ("sent_cancel", {"id": "ABCDEF"}),
        ("recover", {"expired": "yes"}),
        ("history", {"limit": 0}),
        ("history", {"limit": 10**6}),
        ("claim_invoice", {"quote_id": "../x"}),
        ("mints_add", {"url": "h" * 3000}),
        ("quote", {"body": "hi"}),
    ],
)
async def test_parameters_are_checked_before_anything_is_done(action, params, tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises(ActionInvalid) as refused:
            await act(client, action, params)
        assert len(refused.value.message) < 200


async def test_a_refusal_does_not_quote_what_it_refused(tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises(ActionInvalid) as refused:
            await act(client, "receive", {"token": ["cashuBsecret"]})
        assert "secret" not in refused.value.message


async def test_a_new_wallet_is_empty_and_lists_nothing(tmp_path):
    async with empty(tmp_path) as client:
        assert await act(client, "balance", {}) == {
            "available_msat": 0,
            "pending_msat": 0,
            "total_msat": 0,
            "mints": [],
        }
        for action in ("history", "pending", "sent", "invoices", "mints", "gateways"):
            assert await act(client, action, {}) == []
        assert await act(client, "recover", {}) == {"open": 0, "disputed": 0, "unswapped": 0}


async def test_the_seed_is_twelve_words_and_stays_the_same(tmp_path):
    async with empty(tmp_path) as client:
        words = (await act(client, "seed", {}))["words"]
    async with empty(tmp_path) as client:
        assert (await act(client, "seed", {}))["words"] == words
    assert len(words.split()) == 12


async def test_the_settings_in_force_are_told(tmp_path):
    async with empty(tmp_path, budgets={"per_day_sat": 50}) as client:
        told = await act(client, "config", {})
    assert told["home"] == str(tmp_path)
    assert (told["budgets"]["per_request_sat"], told["budgets"]["per_day_sat"]) == (1000, 50)
    assert (told["spent_today_msat"], told["left_today_msat"]) == (0, 50_000)
    assert "user" in told["privacy"]["strip_fields"]


async def test_without_a_mint_the_next_step_is_named(tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises(MintNotKnown, match="otrta mints add"):
            await act(client, "invoice", {"amount_msat": 1000})
        with pytest.raises(NotEnoughFunds, match="otrta invoice"):
            await act(client, "send", {"amount_msat": 1000})


@pytest.mark.parametrize("url", ["ftp://x", "not a url", "http://u:p@x", "http://127.0.0.1:9/?q=1"])
async def test_what_is_no_url_is_neither_a_mint_nor_a_gateway(url, tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises(MintNotKnown):
            await act(client, "mints_add", {"url": url})
        with pytest.raises(GatewayNotKnown):
            await act(client, "gateways_add", {"url": url})


async def test_what_does_not_answer_is_not_added(tmp_path, free_port):
    url = f"http://127.0.0.1:{free_port}"
    async with empty(tmp_path) as client:
        with pytest.raises(OtrtaError):
            await act(client, "mints_add", {"url": url})
        with pytest.raises(GatewayFailure):
            await act(client, "gateways_add", {"url": url})
        assert (await act(client, "mints", {}), await act(client, "gateways", {})) == ([], [])


@pytest.mark.parametrize("action", ["gateways_remove", "gateways_trust", "mints_remove", "mints_info"])
async def test_what_is_not_in_the_list_is_said_to_be_unknown(action, tmp_path):
    async with empty(tmp_path) as client:
        with pytest.raises((GatewayNotKnown, MintNotKnown)):
            await act(client, action, {"url": "http://127.0.0.1:9"})


@pytest.mark.integration
async def test_a_token_goes_out_and_comes_back_whole(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=100_000) as app:
        sent = await app.act("send", amount_msat=12_345)
        assert Token.parse(sent["token"]).amount == sent["amount_msat"] == 12_345
        balance = await app.balance()
        assert (balance["available_msat"], balance["pending_msat"]) == (87_655, 12_345)
        received = await app.act("receive", token=f"  cashu:{sent['token']}\n")
        assert received == {"amount_msat": 12_345, "fee_msat": 0, "mint": mint.url, "unit": "msat"}
        assert (await app.balance())["available_msat"] == 100_000
        with pytest.raises(TokenSpent):
            await app.act("receive", token=sent["token"])
        kinds = [(entry["kind"], entry["amount_msat"]) for entry in await app.act("history")]
        assert kinds == [("receive", 12_345), ("send", -12_345), ("invoice", 100_000)]
        assert len(await app.act("history", limit=1)) == 1


@pytest.mark.integration
async def test_a_token_of_a_strange_mint_is_not_touched_and_no_one_is_asked(tmp_path, mint, purse):
    token = await trio.to_thread.run_sync(purse.token, 500)
    strange = Token("http://127.0.0.1:9", token.unit, token.proofs)
    async with customer(tmp_path, mint=mint.url, funds=0) as app:
        with pytest.raises(MintNotKnown, match=r"otrta mints add http://127\.0\.0\.1:9"):
            await app.act("receive", token=strange.encode())
        assert await app.total() == 0
    assert await trio.to_thread.run_sync(purse.states, token) == {"UNSPENT"}


@pytest.mark.integration
async def test_more_than_there_is_cannot_be_sent(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        with pytest.raises(NotEnoughFunds, match="at most 1 sat can be spent"):
            await app.act("send", amount_msat=1001)
        with pytest.raises(MintNotKnown):
            await app.act("send", amount_msat=1, mint="http://127.0.0.1:9")
        assert (await app.balance())["available_msat"] == 1000


@pytest.mark.integration
async def test_sat_e_cash_is_sent_in_whole_sat_only(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=10, unit="sat") as app:
        with pytest.raises(AmountError, match="whole sat"):
            await app.act("send", amount_msat=2500)
        sent = await app.act("send", amount_msat=2000)
        assert (sent["unit"], Token.parse(sent["token"]).amount) == ("sat", 2)


@pytest.mark.integration
async def test_a_token_comes_of_the_first_mint_that_has_enough(tmp_path, mint, fee_mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        await app.act("mints_add", url=fee_mint.url)
        invoice = await app.act("invoice", amount_msat=50_000, mint=fee_mint.url)
        assert (await app.act("claim_invoice", quote_id=invoice["quote_id"]))["paid"]
        assert (await app.act("send", amount_msat=1000))["mint"] == mint.url
        assert (await app.act("send", amount_msat=1000))["mint"] == fee_mint.url


@pytest.mark.integration
async def test_change_that_waits_for_its_swap_can_be_sent(tmp_path, mint, purse):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=QUOTE_MSAT) as app,
    ):
        await app.ask()
        assert len(await app.client.wallet.kept()) == 1
        sent = await app.act("send", amount_msat=QUOTE_MSAT - 110)
        assert Token.parse(sent["token"]).amount == QUOTE_MSAT - 110


@pytest.mark.integration
async def test_an_invoice_is_for_msat_where_the_mint_has_it_and_for_whole_sat_where_that_is_asked(
    tmp_path, mint
):
    async with customer(tmp_path, mint=mint.url, funds=0) as app:
        invoice = await app.act("invoice", amount_msat=2500)
        assert (invoice["unit"], invoice["amount_msat"], invoice["mint"]) == ("msat", 2500, mint.url)
        assert invoice["request"].startswith("lnbc")
        with pytest.raises(AmountError, match="whole sat"):
            await app.act("invoice", amount_msat=2500, unit="sat")
        claim = {"paid": True, "amount_msat": 2500}
        for _ in range(2):
            assert await app.act("claim_invoice", quote_id=invoice["quote_id"]) == claim
        assert await app.total() == 2500
        with pytest.raises(WalletError):
            await app.act("claim_invoice", quote_id="never-heard-of")


@pytest.mark.integration
async def test_an_invoice_that_was_paid_while_nobody_waited_is_found_by_recover(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=0) as app:
        await app.act("invoice", amount_msat=2500)
        await app.act("recover")
        assert await app.total() == 2500


@pytest.mark.integration
async def test_an_invoice_is_paid_from_the_first_place_that_has_enough(tmp_path, mint, fee_mint):
    async with customer(tmp_path, mint=mint.url, funds=5000) as app:
        await app.act("mints_add", url=fee_mint.url)
        invoice = await strangers_invoice(fee_mint.url, 1000)
        offer = await app.act("pay_quote", invoice=invoice)
        assert (offer["amount_msat"], offer["fee_reserve_msat"]) == (1000, RESERVE_MSAT)
        assert (offer["mint"], offer["unit"]) == (mint.url, "msat")
        with pytest.raises(WalletError, match="never begun"):
            await app.act("pay_status", quote_id=offer["quote_id"])
        paid = await app.act("pay", quote_id=offer["quote_id"])
        assert (paid["state"], paid["fee_msat"]) == ("paid", LIGHTNING_FEE)
        assert await app.act("pay_status", quote_id=offer["quote_id"]) == paid
        assert await app.total() == 5000 - 1000 - LIGHTNING_FEE
        assert await app.act("pending") == []


@pytest.mark.integration
@pytest.mark.parametrize(("amount", "said"), [(5001, "at most 5 sat can be"), (3500, "Paying may take")])
async def test_too_little_for_an_invoice_is_told_before_anything_is_done(
    tmp_path, mint, fee_mint, amount, said
):
    async with customer(tmp_path, mint=mint.url, funds=5000) as app:
        invoice = await strangers_invoice(fee_mint.url, amount)
        with pytest.raises(NotEnoughFunds, match=said):
            await app.act("pay_quote", invoice=invoice)
        assert (await app.act("balance"))["available_msat"] == 5000


@pytest.mark.integration
async def test_a_payment_on_its_way_is_pending_until_recovery_ends_it(tmp_path, mint, fee_mint, monkeypatch):
    async def silent(*_arguments):
        raise OutcomeUnknown("no answer")

    def lost(post):
        async def posted_and_lost(*arguments):
            await post(*arguments)
            await silent()

        return posted_and_lost

    async with customer(tmp_path, mint=mint.url, funds=5000) as app:
        offer = await app.act("pay_quote", invoice=await strangers_invoice(fee_mint.url, 1000))
        monkeypatch.setattr(MintClient, "melt_quote", silent)
        monkeypatch.setattr(MintClient, "melt", lost(MintClient.melt))
        told = await app.act("pay", quote_id=offer["quote_id"])
        assert (told["state"], told["preimage"]) == ("pending", None)
        [payment] = await app.act("pending")
        assert (payment["state"], payment["gateway"]) == ("in_flight", None)
        assert (payment["paid_msat"], mint.url in payment["reason"]) == (1000 + RESERVE_MSAT, True)
        assert (await app.act("recover"))["open"] == 1
        monkeypatch.undo()
        assert (await app.act("recover"))["open"] == 0
        assert (await app.act("pay_status", quote_id=offer["quote_id"]))["state"] == "paid"
        assert await app.total() == 5000 - 1000 - LIGHTNING_FEE


@pytest.mark.integration
async def test_a_mint_with_money_is_not_removed_and_one_without_is_forgotten(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        with pytest.raises(MintInUse, match="otrta balance"):
            await app.act("mints_remove", url=mint.url)
        sent = await app.act("send", amount_msat=1000)
        with pytest.raises(MintInUse):  # sent is not claimed
            await app.act("mints_remove", url=mint.url)
        async with customer(tmp_path / "other", mint=mint.url, funds=0) as other:
            await other.act("receive", token=sent["token"])
        await app.act("recover")
        await app.act("mints_remove", url=f"{mint.url}/")
        assert await app.act("mints") == []
        await app.act("mints_add", url=mint.url)  # and its counters go on where they were
        invoice = await app.act("invoice", amount_msat=700)
        assert (await app.act("claim_invoice", quote_id=invoice["quote_id"]))["paid"]
        assert await app.total() == 700


@pytest.mark.integration
async def test_a_mint_of_the_settings_is_removed_there(tmp_path, mint):
    async with empty(tmp_path, mints=[mint.url]) as client:
        with pytest.raises(MintInUse, match=r"config\.toml"):
            await act(client, "mints_remove", {"url": mint.url})


@pytest.mark.integration
async def test_the_list_of_mints_tells_units_fees_and_what_is_there(tmp_path, mint, fee_mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        await app.act("mints_add", url=fee_mint.url)
        assert await app.act("mints") == [
            {
                "url": mint.url,
                "units": {"msat": {"input_fee_ppk": 0}, "sat": {"input_fee_ppk": 0}},
                "available_msat": 1000,
                "pending_msat": 0,
                "proxy": None,
            },
            {
                "url": fee_mint.url,
                "units": {"msat": {"input_fee_ppk": 100}, "sat": {"input_fee_ppk": 100}},
                "available_msat": 0,
                "pending_msat": 0,
                "proxy": None,
            },
        ]
        info = await app.act("mints_info", url=fee_mint.url)
        assert {(k["unit"], k["active"], k["input_fee_ppk"]) for k in info["keysets"]} == {
            ("msat", True, 100),
            ("sat", True, 100),
        }


@pytest.mark.integration
async def test_gateways_are_listed_looked_at_and_removed(tmp_path, mint, purse):
    async with scripted_gateway(purse) as gateway, customer(tmp_path, mint=mint.url, funds=0) as app:
        added = await app.act("gateways_add", url=f"{gateway.url}/v1/")
        known = {"url": gateway.url, "name": "scripted", "kind": "otrta"}
        ways = {"locks": False, "proxy": None}
        assert added == {**known, **ways, "trusted": True, "distrusted_for": None}
        assert await app.act("gateways") == [added]
        info = await app.act("gateways_info", url=gateway.url)
        assert info["models"][0]["id"] == "m"
        assert info["mints"][0]["url"] == mint.url
        assert await app.act("gateways_remove", url=gateway.url) == {"url": gateway.url}
        assert await app.act("gateways") == []


@pytest.mark.integration
async def test_a_quote_tells_the_price_of_every_gateway_and_sends_nothing(tmp_path, mint, purse):
    async with (
        scripted_gateway(purse) as gateway,
        scripted_gateway(purse) as other,
        customer(tmp_path, gateway.url, other.url, mint=mint.url) as app,
    ):
        other.info["models"] = []
        app.client.gateways.forget_info(other.url)
        told = await app.act("quote", body=dict(HI))
        assert told["prompt_tokens_at_most"] == 50
        assert told["quotes"] == [
            {
                "gateway": gateway.url,
                "quote_msat": QUOTE_MSAT,
                "with_fee_msat": QUOTE_MSAT,
                "mints": [mint.url],
            },
            {"gateway": other.url, "error": "it does not sell m"},
        ]
        assert gateway.seen == []
        with pytest.raises(InvalidRequest):
            await app.act("quote", body={"model": "m"})
        with pytest.raises(InvalidRequest, match="has no price"):
            await app.act("quote", body=dict(HI), path="/v1/files")


@pytest.mark.integration
async def test_a_call_in_the_history_adds_up(tmp_path, mint, purse):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        await app.settled()
        call = (await app.act("history"))[0]
        assert isinstance(call.pop("time"), float)
        assert call == {
            "kind": "call",
            "amount_msat": -110,
            "cost_msat": 110,
            "fee_msat": 0,
            "gateway": gateway.url,
            "model": "m",
            "state": "done",
            "lost_msat": None,
            "key": None,
        }


@pytest.mark.integration
async def test_a_token_that_pays_for_a_call_is_not_among_the_sent_ones(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        transfer = await app.client.wallet.send(mint.url, 100, "msat", reference="a-call")
        assert await app.act("sent") == []
        for action in ("sent_show", "sent_cancel"):
            with pytest.raises(WalletError, match="otrta send --list"):
                await app.act(action, id=transfer.id)


@pytest.mark.integration
async def test_a_sent_token_is_taken_back_unless_its_receiver_was_first(tmp_path, mint):
    async with (
        customer(tmp_path, mint=mint.url, funds=1000) as app,
        customer(tmp_path / "other", mint=mint.url, funds=0) as other,
    ):
        first, second = [await app.act("send", amount_msat=amount) for amount in (300, 200)]
        assert [sent["id"] for sent in await app.act("sent")] == [first["id"], second["id"]]
        with pytest.raises(WalletError):
            await app.act("sent_cancel", id="0" * 32)
        taken_back = {"id": first["id"], "amount_msat": 300, "fee_msat": 0, "mint": mint.url, "unit": "msat"}
        assert await app.act("sent_cancel", id=first["id"][:8]) == taken_back
        await other.act("receive", token=(await app.act("sent_show", id=second["id"]))["token"])
        with pytest.raises(TokenSpent, match="nothing left to cancel"):
            await app.act("sent_cancel", id=second["id"])
        assert await app.act("sent") == []
        assert (await app.total(), await other.total()) == (800, 200)


@pytest.mark.integration
async def test_an_id_that_begins_several_sent_tokens_is_not_enough(tmp_path, mint):
    async with customer(tmp_path, mint=mint.url, funds=1000) as app:
        for number in (1, 2):
            sent = await app.act("send", amount_msat=100)
            change = f"UPDATE transfers SET id = 'abcdef{number}' WHERE id = '{sent['id']}'"
            await app.client.wallet.transactions.run(lambda conn, _now, sql=change: conn.execute(text(sql)))
        with pytest.raises(WalletError, match="give more of it"):
            await app.act("sent_show", id="abcdef")
        assert (await app.act("sent_show", id="abcdef2"))["id"] == "abcdef2"
