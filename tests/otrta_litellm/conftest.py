"""A gateway's store without a gateway, and payments as they stand in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine

from otrta_core import ModelPrice, Proof, Token
from otrta_litellm.gateway import VERSION_TABLE
from otrta_litellm.payments import Offer, Payment
from otrta_litellm.schema import PaymentState
from otrta_litellm.settings import GatewaySettings
from otrta_wallet.database import open_engine, upgrade

POINT = "02" + "11" * 32
PRICE = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=5_000_000)
MINT = "https://mint.example"

_T = TypeVar("_T")
InStore = Callable[[Callable[[Connection], _T]], _T]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LiteLLM's own types warn when they are first used."""
    for item in items:
        if "otrta_litellm" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier"))


@pytest.fixture
def anyio_backend() -> str:
    """LiteLLM runs under asyncio."""
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty store."""
    engine = open_engine(f"sqlite:///{tmp_path}/gateway.sqlite3")
    upgrade(engine, "otrta_wallet", "wallet_version")
    upgrade(engine, "otrta_litellm", VERSION_TABLE)
    yield engine
    engine.dispose()


def token(*secrets: str, memo: str | None = None) -> Token:
    """A token of one msat for each secret."""
    proofs = tuple(Proof(1, "00" * 8, secret, POINT) for secret in secrets or ("a", "b"))
    return Token(MINT, "msat", proofs, memo)


def offer(paid: Token | None = None, paid_msat: int = 10_000) -> Offer:
    """A payment about to be received."""
    return Offer(paid or token(), paid_msat, 0, "/v1/chat/completions", "demo-chat", PRICE, 50)


def payment(**values: object) -> Payment:
    """A redeemed payment that is in no store."""
    given: dict[str, object] = {
        "id": "p",
        "state": PaymentState.REDEEMED,
        "mint": MINT,
        "unit": "msat",
        "memo_hash": None,
        "paid_msat": 10_000,
        "fee_msat": 0,
        "cost_msat": None,
        "change_msat": None,
        "change_token": None,
        "change_due": False,
        "model": "demo-chat",
        "price": PRICE,
        "prompt_tokens_bound": 50,
        "live_tokens": None,
        "owner": "me",
        "changed_at": 0.0,
    }
    return Payment(**(given | values))  # type: ignore[arg-type]


def settings(**values: object) -> GatewaySettings:
    """Settings of a gateway with one mint."""
    return GatewaySettings.model_validate({"store": "store", "mints": MINT} | values)
