"""Speech, which is always the same sound, and transcriptions, which are always the same words."""

import io
import math
import wave
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.sending import NOT_JSON, answering, json_of, plain, stated, whole
from otrta_cli.upstream.uploads import Upload, form_of

SOUND = b"ID3\x04" + bytes(range(256)) * 64
BYTES_PER_SECOND = 16_000
"""Of a file that says nothing of itself: 128 kbit/s."""

_MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac"}
_MEDIA_TYPES |= {"wav": "audio/wav", "pcm": "audio/pcm"}


class SpeechRequest(BaseModel):
    """The part of a call for speech that bears on the answer."""

    model: str
    input: str = Field(min_length=1)
    voice: str
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"


class TranscriptionRequest(BaseModel):
    """The part of a transcription's form that bears on the answer."""

    model: str
    uploads: list[Upload] = Field(min_length=1, max_length=1)
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"

    @property
    def seconds(self) -> float:
        """How long the file plays."""
        content = self.uploads[0].content
        try:
            with wave.open(io.BytesIO(content)) as sound:
                return float(sound.getnframes() / sound.getframerate())
        except (wave.Error, EOFError):
            return len(content) / BYTES_PER_SECOND


def transcript(behaviour: Behaviour, request: TranscriptionRequest) -> str | dict[str, Any]:
    """The whole answer to a transcription: a text, or an object."""
    text = "".join(behaviour.words)
    usage = stated(behaviour, {"type": "duration", "seconds": math.ceil(request.seconds)})
    match request.response_format:
        case "json":
            return {"text": text} | usage
        case "verbose_json":
            told = {"duration": request.seconds} if behaviour.usage == "real" else {}
            return {"task": "transcribe", "language": "english", "text": text, "segments": []} | told | usage
        case "srt":
            return f"1\n00:00:00,000 --> {_clock(request.seconds, ',')}\n{text}\n"
        case "vtt":
            return f"WEBVTT\n\n00:00:00.000 --> {_clock(request.seconds, '.')}\n{text}\n"
        case "text":
            return f"{text}\n"


def _clock(seconds: float, point: str) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


async def _speak(behaviour: Behaviour, asked: SpeechRequest) -> Response:
    if not behaviour.json:
        return whole(behaviour, NOT_JSON.encode(), "text/html")
    return whole(behaviour, SOUND, _MEDIA_TYPES[asked.response_format])


async def _transcribe(behaviour: Behaviour, asked: TranscriptionRequest) -> Response:
    answer = transcript(behaviour, asked)
    if isinstance(answer, dict):
        return plain(behaviour, answer)
    return whole(behaviour, answer.encode(), "text/plain; charset=utf-8")


ROUTES = [
    Route("/v1/audio/speech", answering("speech", json_of(SpeechRequest), _speak), methods=["POST"]),
    Route(
        "/v1/audio/transcriptions",
        answering("transcriptions", form_of(TranscriptionRequest), _transcribe),
        methods=["POST"],
    ),
]
