from typing import Any

import pytest

from otrta_core import CallRequest, InvalidRequest, RequestNotPriceable, UnsupportedParameter

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def rank(documents: Any, query: Any = "why", **fields: Any) -> CallRequest:
    return CallRequest.parse("rerank", {"model": "m", "query": query, "documents": documents, **fields})


def moderate(given: Any, **fields: Any) -> CallRequest:
    return CallRequest.parse("moderations", {"model": "m", "input": given, **fields})


class TestRerank:
    def test_the_query_is_read_with_every_document(self) -> None:
        assert rank(["ä"]).prompt_tokens == 32 + 16 + 3 + 2
        assert rank(["a", {"text": "b"}]).prompt_tokens == 32 + 2 * (16 + 3) + 1 + len('{"text":"b"}')

    @pytest.mark.parametrize(
        ("documents", "units"),
        [
            (["a"], 1),
            (["a"] * 100, 1),
            (["a"] * 101, 2),
            ([""] * 101, 2),
            (["a" * 250] * 100, 1),
            (["a" * 251] * 51, 2),
            (["a" * 250 * 100], 1),
            (["a" * 250 * 100 + "a"], 2),
        ],
        ids=lambda value: str(len(value)) if isinstance(value, list) else str(value),
    )
    def test_search_units_are_bounded_by_the_pieces(self, documents: list[str], units: int) -> None:
        assert rank(documents).search_units == units

    def test_as_many_documents_as_are_allowed_pass(self) -> None:
        assert rank(["a"] * 10_000).search_units == 100

    @pytest.mark.parametrize("documents", [None, 5, "a", [], {}, [None], [5], [["a"]], ["a"] * 10_001])
    def test_documents_of_the_wrong_shape_are_refused(self, documents: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            rank(documents)
        assert caught.value.param == "documents"

    @pytest.mark.parametrize("query", [None, "", 5, ["a"]])
    def test_a_query_of_the_wrong_shape_is_refused(self, query: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            rank(["a"], query)
        assert caught.value.param == "query"

    def test_only_listed_fields_pass(self) -> None:
        assert rank(["a"], top_n=1, return_documents=True, max_chunks_per_doc=3) == rank(["a"])
        with pytest.raises(UnsupportedParameter):
            rank(["a"], instruction="a long one")


class TestModerations:
    @pytest.mark.parametrize(
        ("given", "tokens", "images"),
        [
            ("ä", 48 + 2, 0),
            (["a", "bc"], 64 + 3, 0),
            ([{"type": "text", "text": "abc"}, PICTURE], 64 + 3, 1),
        ],
        ids=str,
    )
    def test_texts_count_by_the_byte_and_pictures_apart(self, given: Any, tokens: int, images: int) -> None:
        call = moderate(given)
        assert (call.prompt_tokens, call.images) == (tokens, images)

    @pytest.mark.parametrize("given", [None, 5, [], {}, [5], [None], [["a"]]], ids=str)
    def test_an_input_of_the_wrong_shape_is_refused(self, given: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            moderate(given)
        assert (type(caught.value), caught.value.param) == (InvalidRequest, "input")

    @pytest.mark.parametrize(
        "part",
        [
            {},
            {"type": "text", "text": 5},
            {"type": "text", "text": "a", "file": "x"},
            {"type": "image_url", "image_url": {"url": "gs://bucket/film.mp4"}},
            {"type": "image_url", "image_url": 5},
            {"type": "input_file", "file_id": "x"},
        ],
        ids=str,
    )
    def test_parts_without_a_bound_are_refused(self, part: Any) -> None:
        with pytest.raises(RequestNotPriceable):
            moderate([part])

    def test_only_listed_fields_pass(self) -> None:
        with pytest.raises(UnsupportedParameter):
            moderate("a", n=2)
