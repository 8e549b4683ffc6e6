"""Forms that strangers send: read whole or refused, and written anew so that all read them alike."""

import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from otrta_core import InvalidRequest
from otrta_core.multipart import (
    MAX_FIELD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PARTS,
    Form,
    SentFile,
    read_form,
)
from otrta_core.requests import transcriptions
from otrta_litellm.forms import write_form

TYPE = "multipart/form-data; boundary=B"


def part(name: str, data: bytes = b"x", *, filename: str | None = None, more: bytes = b"") -> bytes:
    file = b"" if filename is None else f'; filename="{filename}"'.encode()
    return (
        b'--B\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"'
        + file
        + more
        + b"\r\n\r\n"
        + data
        + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def read(*parts: bytes) -> Form:
    return read_form(TYPE, form(*parts))


async def as_litellm_reads(content_type: str, body: bytes) -> list[tuple[str, Any]]:
    """What LiteLLM's own framework makes of a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    found: list[tuple[str, Any]] = []
    parsed = await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            found.append((name, (value.filename, value.content_type, await value.read())))
        else:
            found.append((name, value))
    await parsed.close()
    return found


def test_texts_and_files_are_told_apart_in_their_order() -> None:
    found = read(
        part("model", b"m"),
        part("file", b"\x00\r\n--C\r\n\xff", filename="a.WAV", more=b"\r\nContent-Type: audio/wav"),
        part("x[]", "é".encode()),
        part("x[]", b""),
    )
    assert found.fields == (("model", "m"), ("x[]", "é"), ("x[]", ""))
    assert found.files == (SentFile("file", "file.wav", "audio/wav", b"\x00\r\n--C\r\n\xff"),)
    (figures,) = found.figures()
    assert (figures.name, figures.filename, figures.size) == ("file", "file.wav", 9)


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("a.mp3", "file.mp3"),
        ("../../etc/a.PNG", "file.png"),
        ("a.wav.mp3", "file.mp3"),
        ("a", "file"),
        ("", "file"),
        ("a.", "file"),
        ("a.wav ", "file"),
        ("a.wav;x", "file"),
        ("a.wävé", "file"),
        ("a.123456789", "file"),
        ("a\\b.m4a", "file.m4a"),
    ],
)
def test_of_a_files_name_only_its_ending_is_kept(filename: str, safe: str) -> None:
    assert read(part("file", filename=filename)).files[0].filename == safe


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (b"audio/mpeg", "audio/mpeg"),
        (b"image/svg+xml", "image/svg+xml"),
        (b"video/mp4", "video/mp4"),
        (b"text/html", "application/octet-stream"),
        (b"audio/x; charset=y", "application/octet-stream"),
        (b"audio/\xff", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_of_a_files_media_type_only_a_plain_one_is_kept(stated: bytes, kept: str) -> None:
    sent = read(part("file", filename="a", more=b"\r\nContent-Type: " + stated))
    assert sent.files[0].media_type == kept


NOT_FORMS = {
    "nothing": b"",
    "the end alone, wrongly": b"--C--\r\n",
    "no end": part("a"),
    "an end that is cut": part("a") + b"--B-",
    "a part that is cut": b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx',
    "a head that is cut": b"--B\r\nContent-Disposition: form-data",
    "another boundary": part("a").replace(b"--B", b"--C") + b"--C--\r\n",
    "words before it": b"hello\r\n" + form(part("a")),
    "no name": b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
    "an empty name": form(part("")),
    "no disposition": b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n",
    "another disposition": form(part("a")).replace(b"form-data", b"attachment"),
    "no head": b"--B\r\n\r\nx\r\n--B--\r\n",
    "a head twice": form(part("a", more=b'\r\ncontent-disposition: form-data; name="b"')),
    "a head without a colon": b"--B\r\nnonsense\r\n\r\nx\r\n--B--\r\n",
    "a head that goes on": form(part("a", more=b"\r\n b: c")),
    "a name that is no UTF-8": form(part("a").replace(b'"a"', b'"\xff"')),
    "a text that is no UTF-8": form(part("a", b"\xff")),
    "a file's name that is no UTF-8": form(part("f", filename="Z").replace(b'"Z"', b'"\xff"')),
    "an empty file": form(part("f", b"", filename="a.mp3")),
    "a form in a form": form(part("a", b'\r\n--B\r\nContent-Disposition: form-data; name="b"')),
    "too many parts": form(*[part("a[]")] * (MAX_PARTS + 1)),
    "too many heads": form(part("a", more=b"".join(b"\r\nX-%d: y" % n for n in range(MAX_HEADERS)))),
    "a long head": form(part("a", more=b"\r\nX: " + b"y" * MAX_HEADER_BYTES)),
    "a head of a long name": form(part("a", more=b"\r\n" + b"X" * MAX_HEADER_BYTES + b": y")),
    "a long text": form(part("a", b"x" * (MAX_FIELD_BYTES + 1))),
    "lines alone": b"\r\n" * 1000,
}


@pytest.mark.parametrize("body", NOT_FORMS.values(), ids=NOT_FORMS)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_form(TYPE, body)


def test_as_much_as_is_allowed_is_read() -> None:
    assert len(read(*[part("a[]")] * MAX_PARTS).fields) == MAX_PARTS
    assert len(read(part("a", b"x" * MAX_FIELD_BYTES)).fields[0][1]) == MAX_FIELD_BYTES
    assert read().fields == ()


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=B",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=" + "B" * 71,
        "multipart/form-data; boundary=B\x00",
        "multipart/form-data; boundary=é",
        "multipart/form-data; boundary=☃",
        "multipart/form-data; boundary*=B",
        "multipart/form-data; boundary=B; " + "x" * 1024,
        "multipart/form-data" + ';"' * 400,
    ],
)
def test_what_names_no_sound_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        read_form(content_type, form(part("a")))


@pytest.mark.parametrize("content_type", ['Multipart/Form-Data; charset=utf-8; boundary="B"', f"{TYPE} "])
def test_the_boundary_is_found_however_it_is_written(content_type: str) -> None:
    assert read_form(content_type, form(part("a"))).fields == (("a", "x"),)


@pytest.mark.anyio
async def test_only_allowed_texts_go_out_and_litellm_reads_what_was_meant() -> None:
    sent = read(
        part("model", b"sneaky"),
        part("prompt", "né\r\n--C".encode()),
        part("language", b""),
        part("stream", b"false"),
        part("user", b"bob"),
        part("api_base", b"http://evil.example"),
        part("file", b"\r\n--C \x00", filename="a\\.b", more=b"\r\nContent-Type: audio/mpeg"),
    )
    content_type, body = write_form(sent, transcriptions.FIELDS, "m/é")
    assert await as_litellm_reads(content_type, body) == [
        ("model", "m/é"),
        ("prompt", "né\r\n--C"),
        ("file", ("file.b", "audio/mpeg", b"\r\n--C \x00")),
    ]
    assert write_form(sent, transcriptions.FIELDS, "m")[0] != content_type


NAMES = st.sampled_from(["prompt", "language", "response_format", "temperature"])
TEXTS = st.text(max_size=50).filter(bool)
FILES = st.builds(
    SentFile,
    st.sampled_from(["image", "image[]", "mask", "file"]),
    st.sampled_from(["file", "file.png", "file.wav"]),
    st.sampled_from(["audio/mpeg", "application/octet-stream"]),
    st.binary(min_size=1, max_size=300) | st.just(b"\r\n--otrta-\r\n--"),
)


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=8), st.lists(FILES, max_size=5), TEXTS)
def test_what_is_written_is_read_again(
    fields: list[tuple[str, str]], files: list[SentFile], model: str
) -> None:
    sent = Form(tuple(fields), tuple(files))
    content_type, body = write_form(sent, transcriptions.FIELDS, model)
    assert read_form(content_type, body) == Form((("model", model), *fields), tuple(files))


PIECES = st.sampled_from(
    [
        *(
            b"--B",
            b"--B--",
            b"\r\n",
            b"\n",
            b"\r",
            b"-",
            b":",
            b";",
            b'"',
            b"\\",
            b"\x00",
            b"\xff",
            b" ",
            b"=",
        ),
        *(b"Content-Disposition", b": form-data", b'; name="a"', b'; filename="b.wav"', b"Content-Type"),
        part("a"),
        part("f", filename="a.mp3"),
        form(part("a")),
    ]
)
HOSTILE = st.lists(PIECES | st.binary(max_size=20), max_size=30).map(b"".join)


@given(
    HOSTILE, st.sampled_from([TYPE, "multipart/form-data; boundary=-", "multipart/form-data; boundary=B--"])
)
def test_whatever_comes_is_a_form_or_an_invalid_request(body: bytes, content_type: str) -> None:
    try:
        found = read_form(content_type, body)
    except InvalidRequest:
        return
    assert len(found.fields) + len(found.files) <= MAX_PARTS
    assert read_form(*write_form(found, {name for name, _ in found.fields}, "m")).files == found.files


@given(st.text(max_size=200))
def test_whatever_the_header_says_is_a_boundary_or_an_invalid_request(said: str) -> None:
    for content_type in (said, f"multipart/form-data; boundary={said}", f"multipart/form-data; {said}"):
        with suppress(InvalidRequest):
            assert read_form(content_type, form(part("a"))).fields == (("a", "x"),)


SLOW = {
    "beginnings of boundaries": b"\r\n--",
    "almost boundaries": b"\r\n--B!",
    "carriage returns": b"\r",
    "boundaries": b"\r\n--B\r\n",
    "padded boundaries": b"\r\n--B\t",
    "colons": b":",
    "quotes": b'";',
}


@pytest.mark.parametrize("piece", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("where", ["before", "in a head", "in a file"])
def test_reading_takes_time_in_proportion_to_the_size(piece: bytes, where: str) -> None:
    start = {
        "before": b"",
        "in a head": b'--B\r\nContent-Disposition: form-data; name="a',
        "in a file": b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n',
    }[where]

    def seconds(size: int) -> float:
        body = start + piece * (size // len(piece))
        began = time.process_time()
        with pytest.raises(InvalidRequest):
            read_form(TYPE, body)
        return time.process_time() - began

    # eight times as much may not take sixty-four times as long; a second is far above any noise here
    assert seconds(8 << 20) < 1.0 + 16 * seconds(1 << 20)


def test_a_file_that_is_full_of_boundaries_is_refused_unread() -> None:
    data = b"\r\n--B!" * (MAX_PARTS + 1)
    with pytest.raises(InvalidRequest, match="parts"):
        read(part("file", data, filename="a.mp3"))
    few = b"\r\n--B!" * 3
    assert read(part("file", few, filename="a.mp3")).files[0].content == few


def test_a_files_content_is_the_very_bytes() -> None:
    data = bytes(range(256)) * 4096
    sent = read(part("file", data, filename="a.mp3"))
    content_type, body = write_form(sent, (), "m")
    assert read_form(content_type, body).files[0].content == data
