"""A sound by the second is sold if it plays no longer than its size makes it for the quote."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from otrta_core import ModelPrice, RequestNotPriceable
from otrta_litellm.hearing import Hearing
from otrta_litellm.terms import Terms, read_request
from tests.otrta_core.sound import files
from tests.otrta_litellm.test_terms import FORM, PRICE, Sent, Shelf, quotes, sent

BY_TOKENS = ModelPrice(
    input_msat_per_mtok=1, output_msat_per_mtok=1, second_msat=0, max_input_tokens=9, max_output_tokens=9
)


def heard(content: bytes, filename: str = "a.ogg", price: ModelPrice = PRICE) -> Terms:
    """The terms of a transcription."""
    head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    model = '--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    body = model.encode() + head.encode() + content + b"\r\n--B--\r\n"
    return quotes(Shelf(price)).terms(read_request(Sent("/v1/audio/transcriptions", FORM, body)))


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (files.ogg_opus(500), "a.ogg"),
        (files.wav(7.5), "a.wav"),
        (files.mp3(), "a.mp3"),
        (files.mp4(), "a.m4a"),
    ],
    ids=["ogg", "wav", "mp3", "m4a"],
)
async def test_sounds_that_are_as_short_as_their_size_says_are_sold(content: bytes, filename: str) -> None:
    await Hearing().check(heard(content, filename))


async def test_silence_that_takes_no_bytes_is_refused() -> None:
    terms = heard(files.ogg_opus(150_000, files.OPUS_20_MS))
    assert terms.call.seconds == 509
    with pytest.raises(RequestNotPriceable, match="plays 3001 s, and 509 s are the most"):
        await Hearing().check(terms)


async def test_a_wav_that_is_named_otherwise_is_bounded_by_its_size() -> None:
    slow = files.wav(20).replace(b"\x40\x1f\0\0\x40\x1f\0\0", b"\x64\0\0\0\x64\0\0\0")  # 100 bytes a second
    await Hearing().check(heard(slow, "a.wav"))
    with pytest.raises(RequestNotPriceable, match="plays 1600 s"):
        await Hearing().check(heard(slow, "a.mp3"))


async def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(RequestNotPriceable, match="cannot be told"):
        await Hearing().check(heard(b"#!AMR\n" + b"\x7c" * 1000, "a.amr"))


async def test_where_seconds_cost_nothing_nobody_looks() -> None:
    await Hearing().check(heard(b"no sound", price=BY_TOKENS))
    await Hearing().check(quotes().terms(read_request(sent("/v1/images/edits"))))


async def test_a_long_look_keeps_nobody_else_waiting() -> None:
    looked, thin = False, heard(files.ogg_opus(50_000, files.OPUS_20_MS))

    async def look() -> None:
        nonlocal looked
        with pytest.raises(RequestNotPriceable):
            await Hearing().check(thin)
        looked = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await checkpoint()
        await checkpoint()
        assert not looked
