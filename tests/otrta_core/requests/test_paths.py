import pytest

from otrta_core.requests import FORM_KINDS, OUTPUT_LIMIT_FIELD, OUTPUTLESS, PAYABLE_PATHS, find_payable

BY_KIND = {
    "chat": "/v1/chat/completions /chat/completions",
    "completions": "/v1/completions /completions",
    "embeddings": "/v1/embeddings /embeddings",
    "responses": "/v1/responses /responses /openai/v1/responses",
    "messages": "/v1/messages",
    "images": "/v1/images/generations /images/generations",
    "image_edits": "/v1/images/edits /images/edits",
    "speech": "/v1/audio/speech /audio/speech",
    "transcriptions": "/v1/audio/transcriptions /audio/transcriptions",
    "rerank": "/v2/rerank /v1/rerank /rerank",
    "moderations": "/v1/moderations /moderations",
}


def test_the_payable_paths_are_these() -> None:
    assert {path: kind for kind, paths in BY_KIND.items() for path in paths.split()} == PAYABLE_PATHS


def test_every_kind_either_takes_an_output_limit_or_is_known_to_take_none() -> None:
    assert not OUTPUTLESS & OUTPUT_LIMIT_FIELD.keys()
    assert BY_KIND.keys() - OUTPUTLESS - OUTPUT_LIMIT_FIELD.keys() == {"images", "speech"} | FORM_KINDS


@pytest.mark.parametrize("path", list(PAYABLE_PATHS))
def test_a_fixed_path_leaves_the_model_to_the_body(path: str) -> None:
    found = find_payable(path)
    assert found is not None
    assert (found.kind, found.model) == (PAYABLE_PATHS[path], None)


@pytest.mark.parametrize(
    ("path", "kind", "model"),
    [
        ("/engines/m/chat/completions", "chat", "m"),
        ("/openai/deployments/a/b/chat/completions", "chat", "a/b"),
        ("/engines/m/completions", "completions", "m"),
        ("/openai/deployments/m/completions", "completions", "m"),
        ("/engines/m/embeddings", "embeddings", "m"),
        ("/openai/deployments/m/embeddings", "embeddings", "m"),
        ("/openai/deployments/m/images/generations", "images", "m"),
        ("/openai/deployments/m/images/edits", "image_edits", "m"),
    ],
)
def test_an_alias_names_the_model_itself(path: str, kind: str, model: str) -> None:
    found = find_payable(path)
    assert found is not None
    assert (found.kind, found.model) == (kind, model)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/models",
        "/v1/responses/resp_1",
        "/v1/chat/completions/",
        "/V1/CHAT/COMPLETIONS",
        "/engines//completions",
        "/engines/completions",
        "/engines/m/images/edits",
        "/v1/messages/count_tokens",
        "/queue/chat/completions",
        "/v1/audio/translations",
    ],
)
def test_nothing_else_can_be_bought(path: str) -> None:
    assert find_payable(path) is None
