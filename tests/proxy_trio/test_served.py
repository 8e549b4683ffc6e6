"""Everything that the gateway sells is served, under all of its names, and nothing else."""

import pytest

from otrta_core.requests import FORM_KINDS, PAYABLE_PATHS
from proxy_trio.errors import MethodNotAllowed, PathNotServed
from proxy_trio.served import LISTED, find_served

NAMED = {
    "/openai/deployments/m/chat/completions": "chat",
    "/engines/a/b/completions": "completions",
    "/openai/deployments/m/embeddings": "embeddings",
    "/openai/deployments/m/images/edits": "image_edits",
}


@pytest.mark.parametrize(("path", "kind"), [*PAYABLE_PATHS.items(), *NAMED.items()])
def test_what_is_sold_is_bought_by_post(path, kind):
    served = find_served("POST", path)
    assert served.bought.kind == kind
    assert served.content_type == ("multipart/form-data" if kind in FORM_KINDS else "application/json")
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        with pytest.raises(MethodNotAllowed) as caught:
            find_served(method, path)
        assert caught.value.allowed == ("POST",)


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/v1/models/m", "/v1/models/openai/m", "/models/m"]
)
def test_models_are_free(path):
    for method in ("GET", "HEAD"):
        assert find_served(method, path).bought is None
    with pytest.raises(MethodNotAllowed) as caught:
        find_served("POST", path)
    assert caught.value.allowed == ("GET", "HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/count_tokens",
        "/v1/chat/completions/",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/responses/resp_1",
        "/v1/audio/translations",
        "/v1/models/",
        "/v1/modelsx",
        "/v1/files",
        "/key/generate",
        "/v1/models/" + "m" * 2000,
        "/engines/" + "m" * 2000 + "/chat/completions",
    ],
)
def test_nothing_else_is_served(path):
    for method in ("GET", "POST"):
        with pytest.raises(PathNotServed):
            find_served(method, path)


def test_the_list_names_each_kind_once():
    assert {find_served(*entry.split()).bought.kind for entry in LISTED[:-1]} == set(PAYABLE_PATHS.values())
    assert LISTED[-1] == "GET /v1/models"
