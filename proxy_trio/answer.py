"""A bounded copy of an answer, for the usage in it, without I/O."""


class AnswerCopy:
    """Keeps a plain body while it fits, or the last lines of a stream."""

    def __init__(self, limit_bytes: int, *, tail: bool) -> None:
        """Start an empty copy.

        Args:
            limit_bytes: How much is kept at most.
            tail: Keep the end rather than nothing where the answer is larger.
        """
        self._limit = limit_bytes
        self._tail = tail
        self._kept = bytearray()
        self._whole = True

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        if not self._tail and not self._whole:
            return
        self._kept += data
        if len(self._kept) > self._limit:
            self._whole = False
            if self._tail:
                del self._kept[: -self._limit]
            else:
                self._kept.clear()

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self._whole

    def content(self) -> bytes:
        """What is kept; a cut stream begins with a whole line."""
        if self._whole:
            return bytes(self._kept)
        return bytes(self._kept.partition(b"\n")[2])
