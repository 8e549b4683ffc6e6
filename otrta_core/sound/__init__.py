"""How long a sound really plays, found out by walking the whole file.

A file may say that it is short and be long, and silence takes next to no bytes. So what counts is the longer
of what a file states and what its frames come to, and of forms in which frames could hide nothing is
certain: they are refused. Each module reads one container; none of them decodes anything.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

from otrta_core.sound import flac, matroska, mp4, mpeg, ogg, wav
from otrta_core.sound.reading import Uncertain

__all__ = ["Uncertain", "playing_seconds"]

_BY_MAGIC: Final[Mapping[tuple[int, bytes], Callable[[bytes], Fraction]]] = {
    (0, b"RIFF"): wav.seconds,
    (0, b"fLaC"): flac.seconds,
    (0, b"OggS"): ogg.seconds,
    (0, b"\x1aE\xdf\xa3"): matroska.seconds,
    (4, b"ftyp"): mp4.seconds,
    (0, b"ID3"): mpeg.seconds,
    (0, b"\xff"): mpeg.seconds,
}


def playing_seconds(content: bytes) -> Fraction:
    """Return how long a sound plays at most, in seconds; takes up to a second for a large file.

    Args:
        content: a WAV (PCM, float, A-law, mu-law), an MP3, a FLAC, Ogg with Opus or Vorbis, WebM with Opus,
            or MP4 with AAC.

    Raises:
        Uncertain: it is none of these, damaged, or made so that readers could differ.
    """
    for (at, magic), seconds in _BY_MAGIC.items():
        if content.startswith(magic, at):
            return seconds(content)
    raise Uncertain("of a file of this kind")
