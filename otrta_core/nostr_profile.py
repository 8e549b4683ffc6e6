"""Nostr public keys with their relays, as npub and nprofile texts (NIP-19)."""

from dataclasses import dataclass
from typing import Self

from otrta_core import bech32, tlv
from otrta_core.bech32 import Checksum

KEY_BYTES = 32
_MAX_FIELDS = 64
_KEY, _RELAY = 0, 1


@dataclass(frozen=True, slots=True)
class NostrProfile:
    """Whom to reach over nostr, and where.

    Attributes:
        public_key: the 32 bytes of the x-only key.
        relays: URLs of relays.
    """

    public_key: bytes
    relays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.public_key) != KEY_BYTES:
            raise ValueError("a nostr public key has 32 bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an npub or an nprofile. Fields of an nprofile that NIP-19 does not name are passed over.

        Raises:
            ValueError: neither of the two, or damaged.
        """
        try:
            prefix, data = bech32.decode(text, Checksum.BECH32)
        except ValueError as error:
            raise ValueError(f"no npub or nprofile: {error}") from None
        if prefix == "npub":
            return cls(data)
        if prefix != "nprofile":
            raise ValueError("neither an npub nor an nprofile")
        fields = tlv.read(data, length_bytes=1, max_fields=_MAX_FIELDS)
        keys = [value for kind, value in fields if kind == _KEY]
        if len(keys) != 1:
            raise ValueError("an nprofile must name one public key")
        return cls(keys[0], tuple(value.decode() for kind, value in fields if kind == _RELAY))

    def encode(self) -> str:
        """Write an nprofile.

        Raises:
            ValueError: a relay has more than 255 bytes.
        """
        fields = [(_KEY, self.public_key), *((_RELAY, relay.encode()) for relay in self.relays)]
        return bech32.encode("nprofile", tlv.write(fields, length_bytes=1), Checksum.BECH32)
