"""Decompression of an answer that came compressed although ``identity`` was asked for, without I/O."""

import zlib
from collections.abc import Iterator
from typing import Final

# One compressed kilobyte can hold a megabyte: the output comes in pieces of this size at most.
MAX_PIECE_BYTES: Final = 64 * 1024

_WINDOW_BITS: Final = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}


class DecodingFailed(ValueError):
    """The body is not in the encoding that its header names, or in one that is not known here."""


class Decoder:
    """Incremental decoder of one body (RFC 9110 §8.4.1); without a coding the bytes come out as they are."""

    def __init__(self, coding: str) -> None:
        """Prepare for a coding.

        Args:
            coding: The value of Content-Encoding; empty or ``identity`` for none.

        Raises:
            DecodingFailed: It is none of gzip, deflate and identity.
        """
        name = coding.strip().lower()
        self.decodes = name not in ("", "identity")
        if self.decodes and name not in _WINDOW_BITS:
            raise DecodingFailed("unknown content coding")
        self._window_bits = _WINDOW_BITS.get(name, 0)
        self._inflater = zlib.decompressobj(self._window_bits) if self.decodes else None
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give out what the next bytes hold.

        Raises:
            DecodingFailed: The bytes are not in this coding.
        """
        self._begun = self._begun or bool(data)
        if self._inflater is None:
            yield data
            return
        try:
            yield from self._inflate(data)
        except zlib.error:
            raise DecodingFailed("the compressed body is damaged") from None

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            DecodingFailed: It ended too early.
        """
        if self._begun and self._inflater is not None and not self._inflater.eof:
            raise DecodingFailed("the compressed body is cut")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        inflater = self._inflater
        while inflater is not None:
            if inflater.eof:
                # gzip allows several members one after the other (RFC 1952 §2.2).
                if not data:
                    return
                inflater = self._inflater = zlib.decompressobj(self._window_bits)
            piece = inflater.decompress(data, MAX_PIECE_BYTES)
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < MAX_PIECE_BYTES:
                return
