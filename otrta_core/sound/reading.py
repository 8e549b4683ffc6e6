"""What the readers of sound share."""

import struct
from typing import Any, Final

from otrta_core.errors import RequestNotPriceable

MAX_STEPS: Final = 200_000
"""How many frames, pages or elements of one file are looked at."""


class Uncertain(RequestNotPriceable):
    """How long a sound plays cannot be found out."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"how long the sound plays cannot be told {what}: send a WAV that is not compressed, MP3, FLAC, "
            "Ogg with Opus or Vorbis, WebM with Opus, or MP4 with AAC, whole and with one track",
            param="file",
        )


class Steps:
    """Counts what is looked at, so that no file takes long."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def one(self) -> None:
        """Take a step.

        Raises:
            Uncertain: there were too many.
        """
        self._left -= 1
        if self._left < 0:
            raise Uncertain("of a file of so many small parts")


def unpack(form: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
    """Unpack what is stated at a place; ``struct.unpack_from`` but for its error.

    Raises:
        Uncertain: the file ends before.
    """
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise cut_off() from None


def cut_off() -> Uncertain:
    """Return the error for a file that ends too soon."""
    return Uncertain("of a file that is cut off")
