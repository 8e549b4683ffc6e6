"""Figures for Prometheus: they add up with the store, and nobody but the operator reads them."""

import os
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otrta_cli.processes import Running
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from otrta_litellm.way import METRICS
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, opened

pytestmark = pytest.mark.anyio

KEY = "sk-the-operators-own"
Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]


async def ask(
    gateway: Gateway, headers: dict[str, str], method: str = "GET", key: str | None = KEY
) -> Caller:
    caller = Caller(None, METRICS, method, headers)
    scope = {
        "type": "http",
        "method": method,
        "path": METRICS,
        "query_string": b"",
        "client": ("127.0.0.1", 5),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    await Gate(answers(), gateway, lambda: key)(scope, receive, caller.send)
    return caller


async def figures(gateway: Gateway) -> Figures:
    caller = await ask(gateway, {"Authorization": f"Bearer {KEY}"})
    assert caller.status == 200
    assert caller.told[b"content-type"].startswith(b"text/plain")
    found: Figures = {}
    for family in text_string_to_metric_families(caller.content.decode()):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "worker"))
            found.setdefault(sample.name, {})[labels] = sample.value
            assert sample.labels.get("worker", str(os.getpid())) == str(os.getpid())
    return found


async def test_the_figures_are_those_of_what_happened(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with opened(str(tmp_path), mint.url) as gateway:
        assert (await figures(gateway))["otrta_msat_total"][(("kind", "paid"),)] == 0
        secrets = []
        for _ in range(3):
            secrets.append(token := purse.token(PAID))
            await Caller(token).call(answers(), gateway)
        await Caller(purse.token(PAID)).call(answers(b"{}", 500), gateway)
        spent = purse.token(PAID)
        purse.spend(spent)
        await Caller(spent).call(answers(), gateway)
        await Caller(None).call(answers(), gateway)
        found = await figures(gateway)
        raw = (await ask(gateway, {"Authorization": f"Bearer {KEY}"})).content.decode()
    assert found["otrta_payments_total"] == {
        (("outcome", "served"),): 3,
        (("outcome", "failed_500"),): 1,
        (("outcome", "rejected"),): 1,
    }
    msat = {labels[0][1]: value for labels, value in found["otrta_msat_total"].items()}
    assert msat == {"paid": 4 * PAID, "cost": 330, "fee": 0, "change": 4 * PAID - 330, "excess": 0}
    assert msat["paid"] == msat["cost"] + msat["fee"] + msat["change"]
    assert set(found["otrta_open_payments"].values()) == {0}
    assert (found["otrta_open_debts"][()], found["otrta_open_debts_msat"][()]) == (0, 0)
    held = sum(int(dict(labels)["amount"]) * n for labels, n in found["otrta_proofs"].items())
    assert held == 330
    assert {(dict(labels)["mint"], dict(labels)["unit"]) for labels in found["otrta_proofs"]} == {
        (mint.url, "msat")
    }
    refused = {dict(labels)["code"]: n for labels, n in found["otrta_refused_total"].items()}
    assert refused == {"token_already_spent": 1, "payment_required": 1}
    swaps = found["otrta_mint_seconds_count"][(("call", "swap"), ("mint", mint.url))]
    assert swaps >= 5
    assert not found.get("otrta_mint_away")
    assert [text[:10] for text in purse.handled if text in raw] == []
    assert re.search(r"[0-9a-f]{32}|cashu[AB]", raw) is None


async def test_nobody_but_the_operator_reads_them(tmp_path: Path, mint: Running) -> None:
    async with opened(str(tmp_path), mint.url) as gateway:
        for headers in (
            {},
            {"Authorization": "Bearer sk-other"},
            {"Authorization": KEY},
            {"x-api-key": KEY},
            {"Authorization": f"Bearer {KEY} "[:-2]},
        ):
            refused = await ask(gateway, headers)
            assert (refused.status, refused.code) == (401, "invalid_api_key")
        assert (await ask(gateway, {"Authorization": "Bearer "}, key=None)).status == 401
        assert (await ask(gateway, {"Authorization": f"Bearer {KEY}"}, "POST")).status == 405
