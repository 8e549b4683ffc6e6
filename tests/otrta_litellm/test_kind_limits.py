"""The least and the most of a kind of call, the same at the gateway and in a client's own quote."""

import json
from typing import Any

import pytest

from otrta_cli.processes import Running
from otrta_core import CallRequest, ModelPrice, PaymentRequest, quote_msat
from otrta_litellm.settings import SettingsError, load_settings
from proxy_trio.gateway_info import GatewayInfo
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, opened

GOOD = {"store": "gateway", "mints": "https://a.example"}


def test_limits_are_named_by_path_or_by_kind() -> None:
    paths = {"/chat/completions": {"min_msat": 5}, "embeddings": {"max_msat": 9}}
    found = load_settings(GOOD | {"paths": paths}, {}).paths
    assert {kind: limits.model_dump() for kind, limits in found.items()} == {
        "chat": {"min_msat": 5, "max_msat": None},
        "embeddings": {"min_msat": None, "max_msat": 9},
    }


@pytest.mark.parametrize(
    "paths",
    [
        {"/v1/files": {"min_msat": 5}},
        {"chat": {}},
        {"chat": {"min_msat": 5}, "/v1/chat/completions": {"min_msat": 5}},
        {"chat": {"min_msat": 6, "max_msat": 5}},
        {"chat": {"min_msat": -1}},
        {"chat": {"least": 1}},
        ["chat"],
    ],
    ids=str,
)
def test_limits_that_make_no_sense_are_refused_by_name(paths: Any) -> None:
    with pytest.raises(SettingsError, match="paths"):
        load_settings(GOOD | {"paths": paths}, {})


@pytest.mark.parametrize(
    ("own", "others", "both"),
    [
        ((None, None), (5, 9), (5, 9)),
        ((3, 20), (5, 9), (5, 9)),
        ((7, 8), (5, 9), (7, 8)),
        ((7, None), (None, 9), (7, 9)),
    ],
)
def test_of_two_bounds_the_narrower_counts(
    own: tuple[int | None, int | None], others: tuple[int | None, int | None], both: tuple[int, int]
) -> None:
    price = ModelPrice(min_msat=own[0], max_msat=own[1]).narrowed(*others)
    assert (price.min_msat, price.max_msat) == both


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limits", "quote", "cost"),
    [({"min_msat": 7_000}, 7_000, 7_000), ({"max_msat": 90}, 90, 90), ({"min_msat": 1}, 150, 110)],
)
async def test_gateway_and_client_come_to_the_same_quote_and_cost(
    tmp_path: Any, mint: Running, purse: Purse, limits: dict[str, int], quote: int, cost: int
) -> None:
    body = {"model": "demo-chat", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
    raw = json.dumps(body).encode()
    async with opened(str(tmp_path), mint.url, paths={"/v1/chat/completions": limits}) as gateway:
        shown = await Caller(None, "/v1/cashu/info", "GET").call(answers(), gateway)
        call = CallRequest.parse("chat", body)
        price = GatewayInfo.model_validate_json(shown.content).price(call)
        assert price is not None
        assert quote_msat(price, call) == quote
        asked = await Caller(None, body=raw).call(answers(), gateway)
        assert json.loads(asked.content)["error"]["required_msat"] == quote
        assert PaymentRequest.parse(asked.told[b"x-cashu"].decode()).amount == quote
        exact = await Caller(purse.token(quote), body=raw).call(answers(), gateway)
        assert (exact.status, exact.sums) == (200, (quote, cost, 0, quote - cost))
        more = await Caller(purse.token(PAID), body=raw).call(answers(), gateway)
        assert more.sums == (PAID, cost, 0, PAID - cost)
        failed = await Caller(purse.token(PAID), body=raw).call(answers(b"{}", 500), gateway)
        assert failed.sums == (PAID, 0, 0, PAID)
