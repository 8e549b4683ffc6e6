"""Payment requests: creqA (NUT-18) and creqB (NUT-26), as they stand in a 402's X-Cashu header (NUT-24)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import unquote

from otrta_core import bech32, creqb, wire
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.bech32 import Checksum
from otrta_core.errors import PaymentRequestError

MAX_BYTES = 65_536
_MAX_ITEMS, _MAX_TEXT = 64, 4096
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Transport:
    """A way to hand the payment over (NUT-18); none means in-band.

    Attributes:
        type: "nostr", "post", or what else the request says; the number of a kind that NUT-26 does not name.
        target: an npub or nprofile, a URL; hex of a target whose kind NUT-26 does not name.
        tags: a name and its values each.
    """

    type: str
    target: str
    tags: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Nut10Option:
    """The spending condition that the payee asks for (NUT-18, NUT-10).

    Attributes:
        kind: "P2PK", "HTLC", or what else the request says; the number of a kind that NUT-26 does not name.
        data: what the kind makes of it, for P2PK the public key in hex.
        tags: a name and its values each.
    """

    kind: str
    data: str
    tags: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """What a payee asks for; every field is optional (NUT-18).

    Attributes:
        amount: in ``unit``; a unit is required with it.
        mints: URLs that the payee takes tokens from, without trailing slashes; empty means any.
        single_use: whether it may be paid once only, None where the request does not say.

    Raises:
        PaymentRequestError: the amount is no whole number in range or has no unit, or ``mints`` is one text.
    """

    amount: int | None = None
    unit: str | None = None
    mints: tuple[str, ...] = ()
    id: str | None = None
    description: str | None = None
    single_use: bool | None = None
    transports: tuple[Transport, ...] = ()
    nut10: Nut10Option | None = None

    def __post_init__(self) -> None:
        if self.amount is not None and not (type(self.amount) is int and 0 <= self.amount <= MAX_AMOUNT):
            raise PaymentRequestError("the requested amount is not a whole number, or out of range")
        if self.amount is not None and self.unit is None:
            raise PaymentRequestError("a requested amount needs a unit (NUT-18)")
        if isinstance(self.mints, str):  # each of its letters would be asked for as a mint
            raise PaymentRequestError("mints must be several URLs, not one text: (url,)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a creqA or creqB text, bare, behind ``cashu:``, or in a ``bitcoin:`` URI (BIP-321).

        creqA is read in either base64 alphabet, padded or not; creqB in upper or in lower case. Unknown
        fields are passed over, unknown kinds of transports and conditions are kept.

        Raises:
            PaymentRequestError: not a payment request, or one of a form that this version cannot read.
        """
        if len(text) > MAX_BYTES:
            raise PaymentRequestError(f"the payment request is longer than {MAX_BYTES} bytes")
        text = _bare(text.strip())
        reader = _READERS.get(text[:5].lower())
        if reader is None:
            raise PaymentRequestError("not a payment request: it must begin with creqA or creqB")
        try:
            top = reader(text)
        except ValueError:
            raise PaymentRequestError("the payment request cannot be decoded") from None
        return cls._from_fields(_mapping(top))

    @classmethod
    def _from_fields(cls, top: dict[Any, Any]) -> Self:
        nut10 = top.get("nut10")
        return cls(
            amount=_optional(top.get("a"), int, "a"),
            unit=_optional(top.get("u"), str, "u"),
            mints=tuple(_typed(m, str, "m").rstrip("/") for m in _items(top.get("m"))),
            id=_optional(top.get("i"), str, "i"),
            description=_optional(top.get("d"), str, "d"),
            single_use=_optional(top.get("s"), bool, "s"),
            transports=tuple(_transport(_mapping(t)) for t in _items(top.get("t"))),
            nut10=None if nut10 is None else _nut10(_mapping(nut10)),
        )

    def encode(self, form: str = "creqA") -> str:
        """Write the request as ``creqA``, or as ``creqB`` in upper case, which makes the smaller QR code.

        A nostr target that was an npub is an nprofile of the same key once it has been creqB.

        Raises:
            PaymentRequestError: another form, a text that is not Unicode, or something that creqB cannot say:
                an unknown kind, a nostr target that is no npub or nprofile, or a word of over 255 bytes.
        """
        writer = _WRITERS.get(form)
        if writer is None:
            raise PaymentRequestError("payment requests can be written as creqA or creqB")
        try:
            return writer(self._to_fields())
        except ValueError as error:
            raise PaymentRequestError(f"the payment request cannot be written as {form}: {error}") from None

    def _to_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "t": [_with_tags({"t": t.type, "a": t.target}, "g", t.tags) for t in self.transports],
            "i": self.id,
            "a": self.amount,
            "u": self.unit,
            "m": list(self.mints),
            "d": self.description,
            "s": self.single_use,
            "nut10": self.nut10
            and _with_tags({"k": self.nut10.kind, "d": self.nut10.data}, "t", self.nut10.tags),
        }
        return {key: value for key, value in fields.items() if value is not None and value != []}


def _bare(text: str) -> str:
    """Return what stands behind ``cashu:``, or the creq parameter of a ``bitcoin:`` URI (NUT-26, BIP-321)."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() == "cashu":
        return rest
    if not colon or scheme.lower() != "bitcoin":
        return text
    parameters = [part.partition("=") for part in rest.partition("?")[2].split("&")]
    found = [value for name, _, value in parameters if name.lower() == "creq"]
    if len(found) != 1:
        raise PaymentRequestError("the bitcoin: URI must hold one payment request")
    return unquote(found[0])


def _read_creqa(text: str) -> Any:
    return wire.from_cbor(wire.from_base64(text[5:]))


def _read_creqb(text: str) -> Any:
    prefix, data = bech32.decode(text, Checksum.BECH32M)
    if prefix != "creqb":
        raise ValueError("a foreign prefix")
    return creqb.to_fields(data)


def _write_creqa(fields: Mapping[str, Any]) -> str:
    return "creqA" + wire.to_base64(wire.to_cbor(fields), padded=True)


def _write_creqb(fields: Mapping[str, Any]) -> str:
    return bech32.encode("creqb", creqb.from_fields(fields), Checksum.BECH32M).upper()


_READERS: Mapping[str, Callable[[str], Any]] = {"creqa": _read_creqa, "creqb": _read_creqb}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"creqA": _write_creqa, "creqB": _write_creqb}


def _with_tags(fields: dict[str, Any], name: str, tags: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    return {**fields, name: [list(tag) for tag in tags]} if tags else fields


def _typed(value: Any, kind: type[_T], name: str) -> _T:
    fits = kind is bool or not isinstance(value, bool)
    if fits and isinstance(value, kind) and not (isinstance(value, str) and len(value) > _MAX_TEXT):
        return value
    raise PaymentRequestError(f"the payment request's field {name} has the wrong type or is too long")


def _optional(value: Any, kind: type[_T], name: str) -> _T | None:
    return None if value is None else _typed(value, kind, name)


def _mapping(value: Any) -> dict[Any, Any]:
    return _typed(value, dict, "map")


def _items(value: Any) -> list[Any]:
    items = [] if value is None else _typed(value, list, "list")
    if len(items) > _MAX_ITEMS:
        raise PaymentRequestError(f"the payment request lists more than {_MAX_ITEMS} entries")
    return items


def _tags(value: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(_typed(word, str, "tag") for word in _items(tag)) for tag in _items(value))


def _transport(fields: dict[Any, Any]) -> Transport:
    return Transport(
        _typed(fields.get("t"), str, "t"), _typed(fields.get("a"), str, "a"), _tags(fields.get("g"))
    )


def _nut10(fields: dict[Any, Any]) -> Nut10Option:
    return Nut10Option(
        _typed(fields.get("k"), str, "k"), _typed(fields.get("d"), str, "d"), _tags(fields.get("t"))
    )
