"""Cashu tokens: the texts cashuA (V3, JSON) and cashuB (V4, CBOR) and the binary crawB (V4) of NUT-00.

What a reader meets that it does not know:

- A keyset id of an unknown version is kept as it stands if it has the length of a known one, 8 or 33 bytes,
  and ``Token.resolve`` refuses it unless the mint lists it; an id of another length or form is refused.
- Unknown fields are passed over, as NUT-00 asks, and not written again.
- A witness is kept as its text, a condition as its secret, known or not; nothing here tries to unlock them.
- Another token version, several mints in one token, a proof twice: refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from otrta_core import wire
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.errors import TokenError, TokenTooLarge
from otrta_core.keyset import resolve_keyset_id
from otrta_core.proof import Dleq, Proof, input_fee

MAX_BYTES = 1 << 20
MAX_PROOFS = 10_000
MAX_SECRET = 4096
MAX_WITNESS = 16_384
MAX_MEMO = 4096
_MAX_URL, _MAX_UNIT = 2048, 32
_POINT = re.compile(r"0[23][0-9a-f]{64}", re.ASCII)
_SCALAR = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BINARY_V4 = b"crawB"
_KEYSET_ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{66}", re.ASCII)


@dataclass(frozen=True)
class Token:
    """E-cash of one mint and one unit, ready to hand over.

    Attributes:
        mint: the mint's URL without trailing slashes.
        unit: the unit word as the token states it; "sat" where a V3 token states none.
        proofs: at least one; keyset ids as they stand in the text (see ``resolve``).
        memo: the sender's words, or None.

    The repr shows mint, unit, amount and number of proofs only.
    """

    mint: str
    unit: str
    proofs: tuple[Proof, ...] = field(repr=False)
    memo: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.proofs:
            raise TokenError("the token holds no proofs")
        if self.amount > MAX_AMOUNT:
            raise TokenError("the token's amount is out of range")
        if self.memo is not None and (len(self.memo) > MAX_MEMO or not wire.is_utf8(self.memo)):
            raise TokenError(f"the token's memo must be text of at most {MAX_MEMO} characters")

    def __repr__(self) -> str:
        return (
            f"Token(mint={self.mint!r}, unit={self.unit!r}, amount={self.amount}, proofs={len(self.proofs)})"
        )

    @property
    def amount(self) -> int:
        """The sum of the proofs, in the token's unit."""
        return sum(proof.amount for proof in self.proofs)

    @classmethod
    def parse(cls, text: str, *, max_bytes: int = MAX_BYTES, max_proofs: int = MAX_PROOFS) -> Self:
        """Read a token, with or without the ``cashu:`` prefix.

        Args:
            text: the token; white space around it is ignored.
            max_bytes: longest text that is looked at.
            max_proofs: most proofs that are read.

        Raises:
            TokenTooLarge: more bytes or proofs than allowed.
            TokenError: anything else that is not a token of exactly one mint.
        """
        if len(text) > max_bytes:
            raise TokenTooLarge(f"the token is longer than {max_bytes} bytes: send fewer proofs")
        text = _without_scheme(text.strip())
        reader = _READERS.get(text[:6])
        if reader is None:
            raise TokenError("not a Cashu token: it must begin with cashuA or cashuB")
        try:
            return cls._of(*reader(wire.from_base64(text[6:]), max_proofs))
        except ValueError:
            raise TokenError("the token cannot be decoded: it is damaged or cut off") from None

    @classmethod
    def parse_binary(cls, data: bytes, *, max_bytes: int = MAX_BYTES, max_proofs: int = MAX_PROOFS) -> Self:
        """Read a token in its binary form, ``crawB`` (NUT-00), as it comes over NFC.

        Args:
            data: the token and nothing else.
            max_bytes: most bytes that are looked at.
            max_proofs: most proofs that are read.

        Raises:
            TokenTooLarge: more bytes or proofs than allowed.
            TokenError: anything else that is not a token.
        """
        if len(data) > max_bytes:
            raise TokenTooLarge(f"the token is longer than {max_bytes} bytes: send fewer proofs")
        if not data.startswith(_BINARY_V4):
            raise TokenError("not a binary Cashu token: it must begin with crawB")
        try:
            return cls._of(*_read_v4(data[len(_BINARY_V4) :], max_proofs))
        except ValueError:
            raise TokenError("the token cannot be decoded: it is damaged or cut off") from None

    @classmethod
    def _of(cls, mint: str, unit: str, proofs: list[Proof], memo: str | None) -> Self:
        if len({proof.secret for proof in proofs}) != len(proofs):
            raise TokenError("the token repeats a proof")
        return cls(mint, unit, tuple(proofs), memo)

    def encode(self, version: int = 4) -> str:
        """Write the token as cashuB (4) or cashuA (3); keyset ids and DLEQ as the proofs have them.

        Version 4 groups the proofs by keyset, each group in the token's order.

        Raises:
            TokenError: the version is neither 3 nor 4.
        """
        if version == 4:
            return "cashuB" + wire.to_base64(_to_cbor(self), padded=False)
        if version == 3:
            return "cashuA" + wire.to_base64(wire.compact_json(_to_json(self)).encode(), padded=False)
        raise TokenError("tokens can be written as version 3 or 4")

    def encode_binary(self) -> bytes:
        """Write the token in its binary form, ``crawB`` (NUT-00): what version 4 holds, a quarter smaller."""
        return _BINARY_V4 + _to_cbor(self)

    def resolve(self, keyset_ids: Iterable[str]) -> Self:
        """Return the token with full keyset ids.

        Args:
            keyset_ids: the full ids of the token's mint.

        Raises:
            KeysetError: an id is not among them, or short and ambiguous.
        """
        known = list(keyset_ids)
        full = {short: resolve_keyset_id(short, known) for short in {proof.id for proof in self.proofs}}
        return replace(self, proofs=tuple(replace(p, id=full[p.id]) for p in self.proofs))

    def without_dleq(self) -> Self:
        """Return the token without DLEQ proofs, which would let the mint link it to its issue."""
        return replace(self, proofs=tuple(replace(p, dleq=None) for p in self.proofs))

    def fee(self, fee_ppk: Mapping[str, int]) -> int:
        """Return the input fee of redeeming the token, in its unit; ids must be resolved (NUT-02)."""
        return input_fee(self.proofs, fee_ppk)


def _without_scheme(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    return rest if colon and scheme.lower() == "cashu" else text


def _text(value: Any, limit: int, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not wire.is_utf8(value):
        raise TokenError(f"the token's {what} is missing, empty, too long or not text")
    return value


def _hex(value: Any, pattern: re.Pattern[str], what: str) -> str:
    if isinstance(value, bytes):
        value = value.hex()
    if not isinstance(value, str) or pattern.fullmatch(value := value.lower()) is None:
        raise TokenError(f"the token holds a {what} of the wrong form")
    return value


def _amount(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_AMOUNT:
        raise TokenError("a proof's amount must be a whole number above zero")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TokenError("the token's structure is not that of NUT-00")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TokenError("the token's structure is not that of NUT-00")
    return value


def _dleq(value: Any) -> Dleq | None:
    if value is None:
        return None
    parts = _dict(value)
    if parts.get("r") is None:
        return None  # without r a receiver can verify nothing (NUT-12)
    return Dleq(*(_hex(parts.get(k), _SCALAR, "DLEQ proof") for k in ("e", "s", "r")))


def _witness(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _text(value, MAX_WITNESS, "witness")
    try:
        return _text(wire.compact_json(_dict(value)), MAX_WITNESS, "witness")
    except (TypeError, RecursionError):
        raise TokenError("the token's witness is not JSON") from None


def _ephemeral_key(value: Any) -> str | None:
    return None if value is None else _hex(value, _POINT, "P2BK key")


def _proof(fields: dict[Any, Any], keyset_id: Any, names: Mapping[str, str]) -> Proof:
    return Proof(
        amount=_amount(fields.get(names["amount"])),
        id=_hex(keyset_id, _KEYSET_ID, "keyset id"),
        secret=_text(fields.get(names["secret"]), MAX_SECRET, "secret"),
        C=_hex(fields.get(names["C"]), _POINT, "signature"),
        dleq=_dleq(fields.get(names["dleq"])),
        witness=_witness(fields.get(names["witness"])),
        p2pk_e=_ephemeral_key(fields.get(names["p2pk_e"])),
    )


_V3 = {name: name for name in ("amount", "secret", "C", "dleq", "witness", "p2pk_e")}
_V4 = {"amount": "a", "secret": "s", "C": "c", "dleq": "d", "witness": "w", "p2pk_e": "pe"}
_Parts = tuple[str, str, list[Proof], str | None]


def _mint(value: Any) -> str:
    return _text(_text(value, _MAX_URL, "mint").rstrip("/"), _MAX_URL, "mint")


def _memo(value: Any) -> str | None:
    return None if value in (None, "") else _text(value, MAX_MEMO, "memo")


def _count(proofs: list[Any], room: int) -> int:
    if len(proofs) > room:
        raise TokenTooLarge("the token has more proofs than are accepted: send fewer, larger ones")
    return room - len(proofs)


def _read_v3(data: bytes, max_proofs: int) -> _Parts:
    top = _dict(wire.from_json(data.decode("utf-8")))
    entries = [_dict(entry) for entry in _list(top.get("token"))]
    mints = {_mint(entry.get("mint")) for entry in entries}
    if len(mints) != 1:
        raise TokenError("the token holds proofs of several mints or of none: send one token per mint")
    proofs: list[Proof] = []
    for entry in entries:
        fields = _list(entry.get("proofs"))
        max_proofs = _count(fields, max_proofs)
        proofs += [_proof(_dict(f), _dict(f).get("id"), _V3) for f in fields]
    unit = "sat" if top.get("unit") is None else _text(top["unit"], _MAX_UNIT, "unit")
    return mints.pop(), unit, proofs, _memo(top.get("memo"))


def _read_v4(data: bytes, max_proofs: int) -> _Parts:
    top = _dict(wire.from_cbor(data))
    proofs: list[Proof] = []
    for group in _list(top.get("t")):
        fields = _list(_dict(group).get("p"))
        max_proofs = _count(fields, max_proofs)
        proofs += [_proof(_dict(f), group.get("i"), _V4) for f in fields]
    return _mint(top.get("m")), _text(top.get("u"), _MAX_UNIT, "unit"), proofs, _memo(top.get("d"))


_READERS: Mapping[str, Callable[[bytes, int], _Parts]] = {"cashuA": _read_v3, "cashuB": _read_v4}


def _to_json(token: Token) -> dict[str, Any]:
    proofs = []
    for p in token.proofs:
        fields: dict[str, Any] = {"amount": p.amount, "id": p.id, "secret": p.secret, "C": p.C}
        if p.dleq is not None:
            fields["dleq"] = {"e": p.dleq.e, "s": p.dleq.s, "r": p.dleq.r}
        if p.witness is not None:
            fields["witness"] = p.witness
        if p.p2pk_e is not None:
            fields["p2pk_e"] = p.p2pk_e
        proofs.append(fields)
    top: dict[str, Any] = {"token": [{"mint": token.mint, "proofs": proofs}], "unit": token.unit}
    if token.memo is not None:
        top["memo"] = token.memo
    return top


def _to_cbor(token: Token) -> bytes:
    groups: dict[str, list[dict[str, Any]]] = {}
    for p in token.proofs:
        fields: dict[str, Any] = {"a": p.amount, "s": p.secret, "c": bytes.fromhex(p.C)}
        if p.dleq is not None:
            fields["d"] = {k: bytes.fromhex(getattr(p.dleq, k)) for k in ("e", "s", "r")}
        if p.witness is not None:
            fields["w"] = p.witness
        if p.p2pk_e is not None:
            fields["pe"] = bytes.fromhex(p.p2pk_e)
        groups.setdefault(p.id, []).append(fields)
    top: dict[str, Any] = {"t": [{"i": bytes.fromhex(i), "p": p} for i, p in groups.items()]}
    if token.memo is not None:
        top["d"] = token.memo
    return wire.to_cbor({**top, "m": token.mint, "u": token.unit})
