"""A gateway whose operator has fallbacks, retries, a cache, checks of his own, and upstreams that fail."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from otrta_cli.processes import Running, config_dir, free_port, start_gateway
from otrta_litellm.ledger import earnings_msat, holdings_msat
from tests.integration.purse import Purse
from tests.integration.shop import Shop

_CHECKS = '''
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger


class Checks(CustomLogger):
    """Looks at finished answers, and tells what it saw."""

    async def async_post_call_success_hook(self, data, user_api_key_dict, response):
        said = response.choices[0].message.content if data["model"].startswith("checked") else ""
        if data["model"] == "checked":
            raise HTTPException(400, detail={"error": f"not fit to be seen: {said}"})
        if data["model"] == "checked-broken":
            raise RuntimeError(said)


checks = Checks()
'''
TOKENS = {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}
DEAR = {name: 3 * price for name, price in TOKENS.items()}
CACHED = {**TOKENS, "cached_input_msat_per_mtok": 100_000, "cache_write_msat_per_mtok": 1_250_000}
CLAUDES = ("500", "429", "cut", "slow", "nousage", "nullusage", "reason", "tool", "badjson")


@dataclass
class Various:
    """The gateway, and its store."""

    running: Running
    shop: Shop
    home: Path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the store."""
        connection = sqlite3.connect(f"file:{self.home}/gateway.sqlite3?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def adds_up(self) -> None:
        """Check the store: every msat of every payment is accounted for."""
        over = "('settled', 'claimed', 'rejected')"
        assert self.rows(f"select id from payments where change_due or state not in {over}") == []
        uneven = "select id from payments where cost_msat is not null and paid_msat <> "
        assert self.rows(uneven + "cost_msat + fee_msat + change_msat") == []
        swaps = self.rows("select coalesce(sum(fee_msat), 0) from history where kind = 'swap'")[0][0]
        assert holdings_msat(str(self.home)) == earnings_msat(str(self.home)) - swaps

    def is_worth_it(self, purse: Purse) -> None:
        """Check with the mint that what is held can be spent."""
        held = self.rows("select y from proofs where status = 'available'")
        assert set(purse.states_of(row[0] for row in held)) <= {"UNSPENT"}


@contextmanager
def various_gateway(directory: Path, mint: Running, upstream: Running, log: Path) -> Iterator[Various]:
    """Run it."""
    directory.mkdir()
    (directory / "operators_checks.py").write_text(_CHECKS)
    path = directory / "litellm.yaml"
    path.write_text(yaml.safe_dump(_config()))
    running = start_gateway(
        directory / "home",
        free_port(),
        config=path,
        upstream_url=upstream.url,
        mints=mint.url,
        log=log,
        env={"OTRTA_GATEWAY_CACHE_HIT": "free"},
    )
    try:
        with Shop(running.url, upstream.url) as shop:
            yield Various(running, shop, directory / "home")
    finally:
        running.stop()


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((config_dir() / "litellm.yaml").read_text())
    prices = config["callback_settings"]["otrta"]["prices"]

    def serve(name: str, model: str, price: dict[str, int], **params: Any) -> None:
        at = {"api_base": "os.environ/OTRTA_UPSTREAM_URL", "api_key": "not-needed"}
        config["model_list"].append({"model_name": name, "litellm_params": {**at, "model": model, **params}})
        prices[name] = price

    serve("to-dear", "openai/demo-500", TOKENS)
    serve("to-cheap", "openai/demo-500", DEAR)
    serve("dear", "openai/demo-chat", DEAR)
    serve("to-none", "openai/demo-500", TOKENS)
    serve("retried", "openai/demo-flaky", TOKENS)
    serve("late", "openai/demo-hang", TOKENS, timeout=1, stream_timeout=1)
    serve("unreachable", "openai/demo-chat", TOKENS, api_base="http://127.0.0.1:1/v1")
    serve("free", "openai/demo-chat", {"input_msat_per_mtok": 0, "output_msat_per_mtok": 0})
    serve("checked", "openai/demo-chat", TOKENS)
    serve("checked-broken", "openai/demo-chat", TOKENS)
    for fault in CLAUDES:
        serve(f"claude-{fault}", f"anthropic/demo-{fault}", CACHED)
    serve("claude-late", "anthropic/demo-hang", CACHED, timeout=1, stream_timeout=1)
    config["router_settings"] |= {
        "fallbacks": [{"to-dear": ["dear"]}, {"to-cheap": ["demo-chat"]}, {"to-none": ["demo-429"]}],
        "model_group_retry_policy": {"retried": {"InternalServerErrorRetries": 2}},
    }
    config["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local"}}
    config["litellm_settings"]["callbacks"].append("operators_checks.checks")
    # without it streams state their usage only if asked, which the gateway does
    del config["general_settings"]["always_include_stream_usage"]
    return config
