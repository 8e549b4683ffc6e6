"""Payment requests as they stand in a 402's X-Cashu header: creqA (NUT-18, NUT-24)."""

from dataclasses import dataclass
from typing import Any, Self, TypeVar

from otrta_core import wire
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.errors import PaymentRequestError

MAX_BYTES = 65_536
_MAX_ITEMS, _MAX_TEXT = 64, 4096
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Transport:
    """A way to hand the payment over (NUT-18); none means in-band."""

    type: str
    target: str
    tags: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Nut10Option:
    """The spending condition that the payee asks for (NUT-18, NUT-10)."""

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
        if self.amount is not None and not 0 <= self.amount <= MAX_AMOUNT:
            raise PaymentRequestError("the requested amount is out of range")
        if self.amount is not None and self.unit is None:
            raise PaymentRequestError("a requested amount needs a unit (NUT-18)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a creqA text, in either base64 alphabet, padded or not.

        Raises:
            PaymentRequestError: not a payment request, or one of a form that this version cannot read.
        """
        if len(text) > MAX_BYTES:
            raise PaymentRequestError(f"the payment request is longer than {MAX_BYTES} bytes")
        text = text.strip().removeprefix("cashu:")
        if text[:5].lower() == "creqb":
            raise PaymentRequestError("payment requests of form creqB cannot be read yet: ask for creqA")
        if not text.startswith("creqA"):
            raise PaymentRequestError("not a payment request: it must begin with creqA")
        try:
            top = wire.from_cbor(wire.from_base64(text[5:]))
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
        """Write the request as ``creqA`` text.

        Raises:
            PaymentRequestError: the form is not one that this version writes.
        """
        if form != "creqA":
            raise PaymentRequestError("payment requests can be written as creqA only")
        return "creqA" + wire.to_base64(wire.to_cbor(self._to_fields()), padded=True)

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
