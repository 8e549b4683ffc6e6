import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import CallRequest, InvalidRequest, RequestNotPriceable, UnsupportedParameter
from otrta_core.requests import FormFile
from otrta_core.requests.audio import most_seconds
from tests.otrta_core.calls import wav_head

BASE = 32 + 16
IMAGE = FormFile(name="image", size=1000)
SOUND = FormFile(name="file", size=7500, filename="a.mp3")


def draw(**fields: Any) -> CallRequest:
    return CallRequest.parse("images", {"model": "m", "prompt": "cat", **fields})


def edit(*files: FormFile, **fields: str) -> CallRequest:
    pairs = [("model", "m"), ("prompt", "cat"), *fields.items()]
    return CallRequest.parse_form("image_edits", pairs, files or (IMAGE,))


def speak(text: Any = "Größe", **fields: Any) -> CallRequest:
    return CallRequest.parse("speech", {"model": "m", "input": text, **fields})


def hear(*files: FormFile, fields: list[tuple[str, str]] | None = None) -> CallRequest:
    return CallRequest.parse_form("transcriptions", [("model", "m"), *(fields or [])], files or (SOUND,))


class TestImages:
    def test_every_image_to_be_made_is_a_choice(self) -> None:
        call = draw(n=4)
        assert (call.images_made, call.choices, call.prompt_tokens, call.images) == (4, 4, BASE + 3, 0)
        assert draw().images_made == 1

    def test_what_the_dearest_price_covers_passes(self) -> None:
        same = draw(
            size="1792x1024", quality="hd", style="vivid", response_format="url", stream=False, user="x"
        )
        assert same == draw()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("size", "8192x8192"),
            ("size", 5),
            ("quality", "ultra"),
            ("partial_images", 3),
            ("stream", True),
            ("image", "x"),
            ("input_fidelity", "low"),
        ],
    )
    def test_what_it_does_not_cover_is_refused(self, name: str, value: Any) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            draw(**{name: value})
        assert caught.value.param == name

    @pytest.mark.parametrize("fields", [{"prompt": ""}, {"prompt": 5}, {"prompt": None}, {"n": 0}], ids=str)
    def test_a_wrong_prompt_or_number_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest) as caught:
            draw(**fields)
        assert caught.value.param == next(iter(fields))


class TestEdits:
    def test_every_file_is_an_image_in_the_prompt(self) -> None:
        call = edit(IMAGE, FormFile(name="image[]", size=1), FormFile(name="mask", size=1), n="3")
        assert (call.images, call.images_made, call.prompt_tokens) == (3, 3, BASE + 3)

    @pytest.mark.parametrize("files", [(FormFile(name="mask", size=1),), (FormFile(name="file", size=1),)])
    def test_there_is_an_image_to_edit(self, files: tuple[FormFile, ...]) -> None:
        with pytest.raises(InvalidRequest) as caught:
            edit(*files)
        assert caught.value.param == "image"

    @pytest.mark.parametrize("files", [[IMAGE, FormFile(name="video", size=1)], [IMAGE] * 65])
    def test_other_files_and_too_many_are_refused(self, files: list[FormFile]) -> None:
        with pytest.raises(RequestNotPriceable):
            edit(*files)

    @pytest.mark.parametrize(
        ("name", "value"), [("input_fidelity", "high"), ("style", "vivid"), ("size", "1x1")]
    )
    def test_fields_that_make_it_dearer_are_refused(self, name: str, value: str) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            edit(**{name: value})
        assert caught.value.param == name


class TestForms:
    def test_texts_are_read_as_what_they_stand_for(self) -> None:
        assert edit(n="2", stream="false", output_compression="80", quality="") == edit(n="2")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("n", "two"), ("n", "2.0"), ("n", "-1"), ("n", "٣"), ("stream", "1"), ("output_compression", "1e9")],
    )
    def test_texts_of_another_type_are_refused(self, name: str, value: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            edit(**{name: value})
        assert caught.value.param == name

    def test_a_field_that_stands_twice_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="twice"):
            hear(fields=[("model", "n")])
        with pytest.raises(InvalidRequest, match="twice"):
            hear(fields=[("language", ""), ("language", "de")])

    def test_a_form_of_too_many_fields_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="too many"):
            hear(fields=[("include[]", "logprobs")] * 300)

    def test_each_kind_is_read_in_its_own_form(self) -> None:
        with pytest.raises(InvalidRequest, match="JSON"):
            CallRequest.parse_form("chat", [("model", "m")], [])
        with pytest.raises(InvalidRequest, match="multipart"):
            CallRequest.parse("transcriptions", {"model": "m"})

    @pytest.mark.parametrize("size", [-1, True, 2.0, 3])
    def test_a_size_is_the_number_of_bytes(self, size: Any) -> None:
        with pytest.raises(InvalidRequest):
            FormFile(name="file", size=size, head=b"1234")

    def test_the_path_names_the_model_before_the_form(self) -> None:
        assert CallRequest.parse_form("transcriptions", [("model", "m")], [SOUND], model="n").model == "n"
        assert CallRequest.parse("chat", {"messages": [{"role": "user"}]}, model="n").model == "n"


class TestSpeech:
    def test_characters_are_code_points_and_tokens_are_bytes(self) -> None:
        call = speak(instructions="slow")
        assert (call.characters, call.prompt_tokens) == (5, BASE + 7 + 4)

    @pytest.mark.parametrize("text", ["", None, 5, ["a"]])
    def test_there_is_a_text_to_read(self, text: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            speak(text)
        assert caught.value.param == "input"

    def test_fields_that_are_not_listed_are_refused(self) -> None:
        with pytest.raises(UnsupportedParameter):
            speak(lang_code="de")
        assert speak(voice="alloy", speed=2, response_format="wav", stream_format="sse") == speak()


class TestTranscriptions:
    def test_seconds_are_bounded_by_the_bytes(self) -> None:
        assert hear().seconds == 10
        assert hear(FormFile(name="file", size=7501)).seconds == 11
        assert hear(fields=[("prompt", "names"), ("language", "de")]).prompt_tokens == BASE + 5

    @pytest.mark.parametrize("files", [[SOUND, SOUND], [IMAGE], [FormFile(name="file[]", size=1)]])
    def test_there_is_one_file(self, files: list[FormFile]) -> None:
        with pytest.raises(InvalidRequest, match="one audio file"):
            hear(*files)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("response_format", "diarized_json"),
            ("include[]", "everything"),
            ("timestamp_granularities[]", "page"),
            ("known_speaker_references[]", "x"),
            ("n", "2"),
        ],
    )
    def test_fields_that_are_not_listed_are_refused(self, name: str, value: str) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            hear(fields=[(name, value)])
        assert caught.value.param == name

    def test_what_has_no_price_effect_passes(self) -> None:
        fields = [("temperature", "0.2"), ("timestamp_granularities[]", "word"), ("include[]", "logprobs")]
        assert hear(fields=fields) == hear()


def wav(size: int, head: bytes, filename: str = "a.wav") -> FormFile:
    return FormFile(name="file", size=size, filename=filename, head=head)


class TestWav:
    @pytest.mark.parametrize(
        ("head", "bytes_per_second"),
        [
            (wav_head(), 32_000),
            (wav_head(rate=44_100, channels=2), 176_400),
            (wav_head(bits=32).replace(b"\x10\0\0\0\x01\0", b"\x10\0\0\0\x03\0"), 64_000),
            (wav_head().replace(b"fmt ", b"LIST\x03\0\0\0abc\0fmt ", 1), 32_000),
            (
                wav_head()
                .replace(b"\x10\0\0\0\x01\0", b"\x28\0\0\0\xfe\xff")
                .replace(
                    b"data",
                    struct.pack("<HHI", 22, 16, 4)
                    + b"\x01\0"
                    + bytes.fromhex("000000001000800000aa00389b71")
                    + b"data",
                ),
                32_000,
            ),
        ],
        ids=["mono", "stereo", "float", "after a list", "extensible"],
    )
    def test_the_header_says_how_fast_it_plays(self, head: bytes, bytes_per_second: int) -> None:
        assert most_seconds(wav(10 * bytes_per_second, head)) == 10
        assert most_seconds(wav(10 * bytes_per_second + 1, head, "A.WAV")) == 11

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"RIFF",
            wav_head()[:30],
            wav_head()[:-8],
            wav_head().replace(b"RIFF", b"RIFX"),
            wav_head().replace(b"WAVE", b"AVI "),
            wav_head().replace(b"\x10\0\0\0\x01\0", b"\x10\0\0\0\x55\0"),
            wav_head().replace(b"\x10\0\0\0\x01\0", b"\x10\0\0\0\xfe\xff"),
            wav_head().replace(struct.pack("<I", 32_000), struct.pack("<I", 2**32 - 1)),
            wav_head(rate=400_000),
            wav_head(rate=0),
            wav_head(channels=9),
            wav_head(channels=0),
            wav_head(bits=12),
            wav_head().replace(struct.pack("<IH", 32_000, 2), struct.pack("<IH", 64_000, 4)),
            wav_head().replace(b"data", wav_head()[12:36] + b"data"),
            wav_head().replace(b"fmt ", b"LIST\xff\xff\xff\xfffmt "),
        ],
    )
    def test_a_header_that_is_not_certain_falls_back_to_the_bytes(self, head: bytes) -> None:
        assert most_seconds(wav(75_000, head)) == 100

    @pytest.mark.parametrize("figures", [{"channels": 8}, {"rate": 384_000}, {"channels": 8, "bits": 64}])
    def test_the_most_that_a_header_may_say_is_believed(self, figures: dict[str, int]) -> None:
        per_second = struct.unpack_from("<I", wav_head(**figures), 28)[0]
        assert most_seconds(wav(3 * per_second, wav_head(**figures))) == 3

    def test_the_name_has_to_say_wav_too(self) -> None:
        assert most_seconds(wav(75_000, wav_head(), "a.mp3")) == 100

    @given(st.binary(max_size=200), st.integers(200, 10**9))
    def test_any_head_gives_a_bound_of_at_least_what_the_fastest_sound_plays(
        self, tail: bytes, size: int
    ) -> None:
        for head in (tail, wav_head()[:20] + tail, wav_head() + tail):
            seconds = most_seconds(wav(size, head))
            assert -(-size // (384_000 * 8 * 8)) <= seconds <= -(-size // 750)
