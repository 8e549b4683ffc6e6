"""The TLV form of a payment request (NUT-26), from and to the fields of its JSON form (NUT-18).

Where the forms differ:

- A nostr target is a bare key here and its relays are tags named ``r``; in JSON both are an nprofile. The
  prose of NUT-26 has an npub where there are no relays, its vectors an nprofile: the vectors are followed.
- A kind of transport or condition that NUT-26 does not name stands in JSON as its number in decimal, and the
  target of such a transport as hex, so that it is kept and matches no known kind.
- Fields of unknown type are passed over, as NUT-26 says; a repeated field that may stand once is refused.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from otrta_core import tlv
from otrta_core.nostr_profile import NostrProfile
from otrta_core.tlv import Field

_ID, _AMOUNT, _UNIT, _SINGLE_USE, _MINT, _DESCRIPTION, _TRANSPORT, _NUT10 = range(1, 9)
_KIND, _TARGET, _TAG = range(1, 4)
_REPEATABLE: Final = frozenset({_MINT, _TRANSPORT})
_SAT: Final = b"\0"
_TRANSPORTS: Final = ("nostr", "post")
_CONDITIONS: Final = ("P2PK", "HTLC")
_RELAYS: Final = "r"
_MAX_FIELDS: Final = 256
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


def to_fields(data: bytes) -> dict[str, Any]:
    """Read TLV into the fields of the JSON form.

    Raises:
        ValueError: a field is cut off, repeated, of the wrong length, or not text where it must be.
    """
    fields: dict[str, Any] = {}
    found = _read(data)
    _once([kind for kind, _ in found if _ID <= kind <= _NUT10 and kind not in _REPEATABLE])
    for kind, value in found:
        if kind == _ID:
            fields["i"] = value.decode()
        elif kind == _AMOUNT:
            fields["a"] = _whole(value, 8)
        elif kind == _UNIT:
            fields["u"] = "sat" if value == _SAT else value.decode()
        elif kind == _SINGLE_USE:
            fields["s"] = _flag(value)
        elif kind == _MINT:
            fields.setdefault("m", []).append(value.decode())
        elif kind == _DESCRIPTION:
            fields["d"] = value.decode()
        elif kind == _TRANSPORT:
            fields.setdefault("t", []).append(_read_transport(value))
        elif kind == _NUT10:
            name, target, tags = _read_option(value, _CONDITIONS)
            fields["nut10"] = {"k": name, "d": target.decode(), "t": tags}
    return fields


def from_fields(fields: Mapping[str, Any]) -> bytes:
    """Write the fields of the JSON form as TLV, in the order of their types.

    Raises:
        ValueError: a kind has no number here, a nostr target is no npub or nprofile, a tag is empty, or a
            value is too long or not text.
    """
    written: list[Field] = []
    if "i" in fields:
        written.append((_ID, fields["i"].encode()))
    if "a" in fields:
        written.append((_AMOUNT, fields["a"].to_bytes(8, "big")))
    if "u" in fields:
        written.append((_UNIT, _write_unit(fields["u"])))
    if "s" in fields:
        written.append((_SINGLE_USE, bytes([fields["s"]])))
    written += [(_MINT, mint.encode()) for mint in fields.get("m", ())]
    if "d" in fields:
        written.append((_DESCRIPTION, fields["d"].encode()))
    written += [(_TRANSPORT, _write_transport(transport)) for transport in fields.get("t", ())]
    if "nut10" in fields:
        written.append((_NUT10, _write_condition(fields["nut10"])))
    return _write(written)


def _read(data: bytes) -> list[Field]:
    return tlv.read(data, length_bytes=2, max_fields=_MAX_FIELDS)


def _write(fields: Iterable[Field]) -> bytes:
    return tlv.write(fields, length_bytes=2)


def _once(kinds: list[int]) -> None:
    if len(set(kinds)) != len(kinds):
        raise ValueError("a field that may stand once is repeated")


def _whole(value: bytes, size: int) -> int:
    if len(value) != size:
        raise ValueError("a number of the wrong length")
    return int.from_bytes(value, "big")


def _flag(value: bytes) -> bool:
    if value not in (b"\0", b"\1"):
        raise ValueError("a flag that is neither 0 nor 1")
    return value == b"\1"


def _write_unit(unit: str) -> bytes:
    value = unit.encode()
    if value == _SAT:
        raise ValueError("a unit that would be read as sat")
    return _SAT if unit == "sat" else value


def _read_option(data: bytes, names: tuple[str, ...]) -> tuple[str, bytes, list[list[str]]]:
    """Return kind, target and tags of a transport or a condition."""
    fields = _read(data)
    _once([kind for kind, _ in fields if kind in (_KIND, _TARGET)])
    parts = dict(fields)
    if _KIND not in parts or _TARGET not in parts:
        raise ValueError("a transport or condition without its kind or its target")
    number = _whole(parts[_KIND], 1)
    name = names[number] if number < len(names) else str(number)
    return name, parts[_TARGET], [_read_tag(value) for kind, value in fields if kind == _TAG]


def _read_transport(data: bytes) -> dict[str, Any]:
    name, target, tags = _read_option(data, _TRANSPORTS)
    if name == "nostr":
        relays = [relay for tag in tags if tag[0] == _RELAYS for relay in tag[1:]]
        tags = [tag for tag in tags if tag[0] != _RELAYS]
        return {"t": name, "a": NostrProfile(target, tuple(relays)).encode(), "g": tags}
    return {"t": name, "a": target.decode() if name == "post" else target.hex(), "g": tags}


def _write_transport(transport: Mapping[str, Any]) -> bytes:
    name, target, tags = transport["t"], transport["a"], transport.get("g", ())
    number = _number(name, _TRANSPORTS)
    if name == "nostr":
        profile = NostrProfile.parse(target)
        relays = [[_RELAYS, relay] for relay in profile.relays]
        return _write_option(number, profile.public_key, [*tags, *relays])
    return _write_option(number, target.encode() if name == "post" else bytes.fromhex(target), tags)


def _write_condition(condition: Mapping[str, Any]) -> bytes:
    number = _number(condition["k"], _CONDITIONS)
    return _write_option(number, condition["d"].encode(), condition.get("t", ()))


def _write_option(number: int, target: bytes, tags: Iterable[Iterable[str]]) -> bytes:
    return _write([(_KIND, bytes([number])), (_TARGET, target), *((_TAG, _write_tag(tag)) for tag in tags)])


def _number(name: str, names: tuple[str, ...]) -> int:
    if name in names:
        return names.index(name)
    if _NUMBER.fullmatch(name) is None or not len(names) <= int(name) <= 255:
        raise ValueError("a kind of transport or condition that NUT-26 has no number for")
    return int(name)


def _read_tag(data: bytes) -> list[str]:
    words = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise ValueError("a truncated tag")
        words.append(data[at + 1 : end].decode())
        at = end
    if not words:
        raise ValueError("a tag without a name")
    return words


def _write_tag(words: Iterable[str]) -> bytes:
    parts = [word.encode() for word in words]
    if not parts or any(len(part) > 255 for part in parts):
        raise ValueError("a tag without a name, or with a word of more than 255 bytes")
    return b"".join(bytes([len(part)]) + part for part in parts)
