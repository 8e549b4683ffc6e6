"""Which kinds of call a model is sold for."""

from typing import get_args

import pytest

from otrta_core import ModelPrice
from otrta_core.requests import Kind
from otrta_litellm.kinds import has_price_for, is_made_for

TEXT = {"chat", "completions", "responses", "messages"}
IMAGES = {"images", "image_edits"}
UNTOLD = {"embeddings", "rerank", "moderations"}
PIECES = {*IMAGES, "speech", "transcriptions"}
ALL = set(get_args(Kind))


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        (None, ALL),
        ("chat", TEXT | IMAGES),
        ("responses", TEXT | IMAGES),
        ("completion", TEXT),
        ("embedding", {"embeddings"}),
        ("image_generation", IMAGES),
        ("image_edit", IMAGES),
        ("audio_speech", {"speech"}),
        ("audio_transcription", {"transcriptions"}),
        ("rerank", {"rerank"}),
        ("moderation", {"moderations"}),
        ("realtime", set()),
        ("video_generation", set()),
        ("ocr", set()),
        ("search", set()),
        ("", set()),
    ],
)
def test_a_mode_of_litellms_list_is_for_some_kinds(mode: str | None, kinds: set[str]) -> None:
    assert {kind for kind in get_args(Kind) if is_made_for(mode, kind)} == kinds


@pytest.mark.parametrize(
    ("price", "kinds"),
    [
        ({"input_msat_per_mtok": 1, "output_msat_per_mtok": 1}, ALL),
        ({"output_msat_per_mtok": 1}, TEXT | PIECES),
        ({"reasoning_msat_per_mtok": 1}, TEXT | PIECES),
        ({"input_msat_per_mtok": 1}, UNTOLD | PIECES),
        ({"cache_write_msat_per_mtok": 1}, UNTOLD | PIECES),
        ({"request_msat": 1}, ALL),
        ({"image_msat": 1}, PIECES),
        ({"character_msat_per_million": 1}, PIECES),
        ({"second_msat": 1}, PIECES),
        ({"image_msat": 1, "input_msat_per_mtok": 1}, UNTOLD | PIECES),
        ({"image_msat": 1, "request_msat": 1}, UNTOLD | PIECES),
        ({}, ALL),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_a_price_is_for_some_kinds(price: dict[str, int], kinds: set[str]) -> None:
    found = {kind for kind in get_args(Kind) if has_price_for(ModelPrice(**price), kind)}
    assert found == kinds
