"""Mint quotes that only the owner of a key can mint (NUT-20), and several minted at once (NUT-29)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from otrta_core import schnorr
from otrta_core.errors import MintQuoteError


@dataclass(frozen=True, slots=True)
class MintQuote:
    """A mint quote as a batch needs it (NUT-04, NUT-20).

    Attributes:
        id: the quote's id at the mint; with an unlocked quote, whoever knows it can mint.
        method: the payment method, such as "bolt11".
        unit: the unit that is minted.
        amount: how much to mint, in that unit.
        pubkey: the key that the quote is locked to, in hex; None where it is not.
    """

    id: str = field(repr=False)
    method: str
    unit: str
    amount: int
    pubkey: str | None = None


def quote_message(quote_id: str, blinded: Iterable[str]) -> str:
    """Return the text that is signed to mint a quote: its id and the B_ of all outputs in order (NUT-20)."""
    return quote_id + "".join(blinded)


def sign_quote(quote_id: str, blinded: Iterable[str], key: bytes, *, aux: bytes | None = None) -> str:
    """Sign a mint request and return the signature in hex (NUT-20).

    Args:
        quote_id: the quote to mint.
        blinded: B_ of each output in hex, in the order of the request.
        key: the private key behind the quote's ``pubkey``, 32 bytes.
        aux: as in ``schnorr.sign``.

    Raises:
        ValueError: the key or ``aux`` is of the wrong size or range.
    """
    return schnorr.sign(quote_message(quote_id, blinded), key, aux)


def quote_signature_holds(quote_id: str, blinded: Iterable[str], signature: str, pubkey: str) -> bool:
    """Tell whether a mint request is signed by the key that its quote is locked to (NUT-20)."""
    return schnorr.verifies(quote_message(quote_id, blinded), signature, pubkey)


@dataclass(frozen=True, slots=True)
class BatchMint:
    """A request that mints several quotes at once, checked as the mint does (NUT-29).

    Attributes:
        quotes: what is minted; all of one method and one unit, none twice.
        outputs: amount, keyset id and B_ (hex) of each output; together as much as the quotes.
        signatures: one per quote, None for an unlocked one; None altogether where none is locked.

    Raises:
        MintQuoteError: any of this does not hold, or a signature does not.
    """

    quotes: tuple[MintQuote, ...]
    outputs: tuple[tuple[int, str, str], ...]
    signatures: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if not self.quotes:
            raise MintQuoteError("a batch must name at least one mint quote")
        if len({quote.id for quote in self.quotes}) != len(self.quotes):
            raise MintQuoteError("a batch names a mint quote twice")
        if len({(quote.method, quote.unit) for quote in self.quotes}) != 1:
            raise MintQuoteError("the quotes of a batch must have one payment method and one unit")
        if sum(quote.amount for quote in self.quotes) != sum(amount for amount, _, _ in self.outputs):
            raise MintQuoteError("the outputs of a batch must add up to its quotes")
        signatures = (None,) * len(self.quotes) if self.signatures is None else self.signatures
        if len(signatures) != len(self.quotes):
            raise MintQuoteError("a batch must have one signature, or null, per quote")
        for quote, signature in zip(self.quotes, signatures, strict=True):
            self._check_signature(quote, signature)

    def _check_signature(self, quote: MintQuote, signature: str | None) -> None:
        if quote.pubkey is None:
            if signature is not None:
                raise MintQuoteError("a batch has a signature for a quote that is not locked")
        elif signature is None or not quote_signature_holds(quote.id, self.blinded, signature, quote.pubkey):
            raise MintQuoteError("a batch lacks the signature of a quote's key")

    @property
    def blinded(self) -> tuple[str, ...]:
        """B_ of each output: what each signature covers, all of them whatever the quote's amount."""
        return tuple(blinded for _, _, blinded in self.outputs)

    @classmethod
    def sign(
        cls,
        quotes: Sequence[MintQuote],
        outputs: Sequence[tuple[int, str, str]],
        keys: Mapping[str, bytes],
        *,
        aux: bytes | None = None,
    ) -> Self:
        """Make a batch with the signatures of its locked quotes.

        Args:
            quotes: as in the class.
            outputs: as in the class.
            keys: private keys of 32 bytes by quote id, for the locked quotes.
            aux: as in ``schnorr.sign``.

        Raises:
            MintQuoteError: as in the class; also where a locked quote has no key.
            ValueError: a key or ``aux`` is of the wrong size or range.
        """
        blinded = [output[2] for output in outputs]
        locked = {quote.id for quote in quotes if quote.pubkey is not None} & set(keys)
        signed = {quote_id: sign_quote(quote_id, blinded, keys[quote_id], aux=aux) for quote_id in locked}
        signatures = tuple(signed.get(quote.id) for quote in quotes)
        return cls(tuple(quotes), tuple(outputs), signatures if signed else None)

    @classmethod
    def of_known(
        cls,
        quote_ids: Iterable[str],
        known: Mapping[str, MintQuote],
        outputs: Sequence[tuple[int, str, str]],
        signatures: Sequence[str | None] | None = None,
    ) -> Self:
        """Make a batch of quotes named by id.

        Raises:
            MintQuoteError: as in the class; also where a quote is not known, and then none is minted.
        """
        ids = list(quote_ids)
        if any(quote_id not in known for quote_id in ids):
            raise MintQuoteError("a batch names a mint quote that is not known")
        quotes = tuple(known[quote_id] for quote_id in ids)
        return cls(quotes, tuple(outputs), None if signatures is None else tuple(signatures))

    def to_fields(self) -> dict[str, Any]:
        """Return the body of ``POST /v1/mint/{method}/batch``."""
        fields: dict[str, Any] = {
            "quotes": [quote.id for quote in self.quotes],
            "quote_amounts": [quote.amount for quote in self.quotes],
            "outputs": [{"amount": amount, "id": keyset, "B_": b} for amount, keyset, b in self.outputs],
        }
        if self.signatures is not None:
            fields["signatures"] = list(self.signatures)
        return fields
