import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import BatchMint, MintQuote, MintQuoteError, quote_signature_holds, sign_quote
from otrta_core.mint_quote import quote_message
from tests.otrta_core.locks import KEYS, PUBLIC
from tests.otrta_core.vectors import load

NUT20, NUT29 = load("20"), load("29")
BLINDED = [PUBLIC[8], PUBLIC[9]]
OUTPUTS = ((2, "00ad268c4d1f5826", BLINDED[0]), (1, "00ad268c4d1f5826", BLINDED[1]))
OPEN = MintQuote("open", "bolt11", "msat", 1)
LOCKED = MintQuote("locked", "bolt11", "msat", 2, PUBLIC[0])


def blinded_of(request: dict[str, Any]) -> list[str]:
    return [output["B_"] for output in request["outputs"]]


def outputs_of(request: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(output["amount"], output["id"], output["B_"]) for output in request["outputs"]]


class TestSignatures:
    def test_the_published_message_is_signed(self) -> None:
        request = NUT20["valid"]
        assert quote_message(request["quote"], blinded_of(request)) == NUT20["message"]

    @pytest.mark.parametrize(("name", "holds"), [("valid", True), ("invalid", False)])
    def test_the_published_signatures_hold_or_not(self, name: str, holds: bool) -> None:
        request = NUT20[name]
        signature = request["signature"]
        assert (
            quote_signature_holds(request["quote"], blinded_of(request), signature, NUT20["pubkey"]) is holds
        )

    @given(st.text(max_size=20), st.lists(st.sampled_from(PUBLIC), max_size=4), st.sampled_from(range(4)))
    def test_what_is_signed_holds_and_nothing_else(self, quote: str, blinded: list[str], number: int) -> None:
        signature = sign_quote(quote, blinded, KEYS[number])
        assert quote_signature_holds(quote, blinded, signature, PUBLIC[number])
        assert not quote_signature_holds(quote + "x", blinded, signature, PUBLIC[number])
        assert not quote_signature_holds(quote, [*blinded, PUBLIC[0]], signature, PUBLIC[number])
        assert not quote_signature_holds(quote, blinded, signature, PUBLIC[number + 1])
        assert not quote_signature_holds(quote, blinded, "", PUBLIC[number])

    def test_the_order_of_outputs_is_signed(self) -> None:
        assert not quote_signature_holds("q", BLINDED[::-1], sign_quote("q", BLINDED, KEYS[0]), PUBLIC[0])


REFUSED = ["not known", "at least one", "twice", "one payment method", "one signature, or null, per quote"]


class TestPublishedBatches:
    def test_the_published_batch_is_made(self) -> None:
        batch = NUT29["batch"]
        quotes = [MintQuote(id_, "bolt11", "sat", n) for id_, n in batch["amounts_of_quotes"].items()]
        made = BatchMint.sign(quotes, outputs_of(batch["request"]), {})
        assert made.to_fields() == batch["request"]
        signed = batch["response"]["signatures"]
        assert [s["amount"] for s in signed] == [amount for amount, _, _ in made.outputs]

    def test_a_check_of_unknown_quotes_would_not_be_minted_either(self) -> None:
        check = NUT29["check_unknown"]
        assert check["response"]["code"] == "UNKNOWN_QUOTE"
        known = {"known-1": replace(OPEN, id="known-1", amount=3)}
        with pytest.raises(MintQuoteError, match="not known"):
            BatchMint.of_known(check["request"]["quotes"], known, OUTPUTS)

    @pytest.mark.parametrize(
        ("case", "why"),
        list(zip(NUT29["invalid"], REFUSED, strict=True)),
        ids=[case["name"] for case in NUT29["invalid"]],
    )
    def test_the_published_invalid_batches_are_refused(self, case: dict[str, Any], why: str) -> None:
        request = case["request"]
        ids, outputs = request["quotes"], outputs_of(request) if "outputs" in request else list(OUTPUTS)
        total = sum(output[0] for output in outputs)
        amounts = request.get("quote_amounts") or ([total // len(ids)] * len(ids) if ids else [])
        methods = case.get("methods", ["bolt11"] * len(ids))
        known = {
            id_: MintQuote(id_, method, "sat", amount)
            for id_, method, amount in zip(ids, methods, amounts, strict=True)
            if id_ not in case.get("unknown", [])
        }
        with pytest.raises(MintQuoteError, match=why) as caught:
            BatchMint.of_known(ids, known, outputs, request.get("signatures"))
        assert (caught.value.code, caught.value.http_status) == ("mint_quote_invalid", 400)

    def test_the_published_signed_batch_holds_for_the_quote_that_it_was_signed_for(self) -> None:
        signed = NUT29["signed"]
        request, id_ = signed["request"], signed["quote_that_was_signed"]
        known = {
            name: MintQuote(name, "bolt11", "sat", 2, signed["pubkey"]) for name in (id_, *request["quotes"])
        }
        made = BatchMint.of_known([id_], known, outputs_of(request), request["signatures"])
        assert made.to_fields()["signatures"] == request["signatures"]
        for ids, outputs in ([request["quotes"], outputs_of(request)], [[id_], outputs_of(request)[::-1]]):
            with pytest.raises(MintQuoteError, match="lacks the signature"):
                BatchMint.of_known(ids, known, outputs, request["signatures"])

    def test_the_published_hash_is_over_bytes_where_the_signature_is_over_hex(self) -> None:
        signed = NUT29["signed"]
        quote, blinded = signed["quote_that_was_signed"], blinded_of(signed["request"])
        raw = quote.encode() + b"".join(map(bytes.fromhex, blinded))
        assert hashlib.sha256(raw).hexdigest() == signed["msg_hash"]
        assert quote_message(quote, blinded) == quote + "".join(blinded)

    def test_the_owner_of_the_published_key_signs(self) -> None:
        signed = NUT29["signed"]
        request = signed["request"]
        (id_,) = request["quotes"]
        quote = MintQuote(id_, "bolt11", "sat", 2, signed["pubkey"])
        batch = BatchMint.sign([quote], outputs_of(request), {id_: KEYS[signed["sk"] - 1]})
        assert batch.signatures is not None
        assert quote_signature_holds(id_, batch.blinded, batch.signatures[0] or "", signed["pubkey"])


class TestBatches:
    def test_locked_and_open_quotes_are_minted_together(self) -> None:
        batch = BatchMint.sign([LOCKED, OPEN], OUTPUTS, {"locked": KEYS[0], "another": KEYS[1]})
        signature = sign_quote("locked", BLINDED, KEYS[0])
        assert batch.signatures == (signature, None)
        assert batch.to_fields() == {
            "quotes": ["locked", "open"],
            "quote_amounts": [2, 1],
            "outputs": [{"amount": n, "id": id_, "B_": b} for n, id_, b in OUTPUTS],
            "signatures": [signature, None],
        }

    def test_open_quotes_alone_need_no_signatures(self) -> None:
        outputs = OUTPUTS[1:]
        assert BatchMint.sign([OPEN], outputs, {"open": KEYS[0]}).signatures is None
        assert "signatures" not in BatchMint((OPEN,), outputs).to_fields()
        assert BatchMint((OPEN,), outputs, (None,)).to_fields()["signatures"] == [None]

    @pytest.mark.parametrize(
        ("quotes", "signatures", "why"),
        [
            ((LOCKED, OPEN), None, "lacks the signature"),
            ((LOCKED, OPEN), (None, None), "lacks the signature"),
            ((LOCKED, OPEN), ("ab" * 64, None), "lacks the signature"),
            ((OPEN, LOCKED), (sign_quote("locked", BLINDED, KEYS[0]), None), "not locked"),
            ((LOCKED, OPEN), (sign_quote("locked", BLINDED, KEYS[0]),) * 2, "not locked"),
            ((LOCKED, OPEN), (sign_quote("locked", BLINDED, KEYS[1]), None), "lacks the signature"),
            ((LOCKED, OPEN), (sign_quote("locked", BLINDED[:1], KEYS[0]), None), "lacks the signature"),
            ((LOCKED, OPEN), (), "per quote"),
            ((LOCKED, OPEN), (None,) * 3, "per quote"),
            ((LOCKED, replace(OPEN, unit="sat")), None, "one unit"),
            ((LOCKED, replace(OPEN, amount=2)), None, "add up"),
            ((LOCKED,), None, "add up"),
        ],
        ids=range(12),
    )
    def test_a_batch_that_the_mint_would_refuse_is_not_made(
        self, quotes: tuple[MintQuote, ...], signatures: tuple[str | None, ...] | None, why: str
    ) -> None:
        with pytest.raises(MintQuoteError, match=why):
            BatchMint(quotes, OUTPUTS, signatures)

    def test_a_locked_quote_without_its_key_is_not_minted(self) -> None:
        with pytest.raises(MintQuoteError, match="lacks the signature"):
            BatchMint.sign([LOCKED, OPEN], OUTPUTS, {})

    def test_what_mints_an_open_quote_is_not_shown(self) -> None:
        assert "open" not in repr(OPEN)
