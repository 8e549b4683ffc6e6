"""Tokens, payments, settings and routers as tests want them."""

from decimal import Decimal
from typing import Any

from otrta_core import CallRequest, ModelPrice, Proof, Token
from otrta_litellm.payments import Offer, Payment
from otrta_litellm.router_view import Deployment, UsdPrices
from otrta_litellm.schema import PaymentState
from otrta_litellm.settings import GatewaySettings

POINT = "02" + "11" * 32
PRICE = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=5_000_000)
CALL = CallRequest(kind="chat", model="demo-chat", prompt_tokens=50)
MINT = "https://mint.example"


def token(*secrets: str, memo: str | None = None) -> Token:
    """A token of one msat for each secret."""
    proofs = tuple(Proof(1, "00" * 8, secret, POINT) for secret in secrets or ("a", "b"))
    return Token(MINT, "msat", proofs, memo)


def offer(paid: Token | None = None, paid_msat: int = 10_000) -> Offer:
    """A payment about to be received."""
    return Offer(paid or token(), paid_msat, 0, "/v1/chat/completions", CALL, PRICE)


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
        "call": CALL,
        "price": PRICE,
        "live_tokens": None,
        "owner": "me",
        "lease": 0,
        "changed_at": 0.0,
    }
    return Payment(**(given | values))  # type: ignore[arg-type]


def settings(**values: object) -> GatewaySettings:
    """Settings of a gateway with one mint."""
    return GatewaySettings.model_validate({"store": "store", "mints": MINT} | values)


class View:
    """A router that says what a test tells it, and counts how often it is asked."""

    def __init__(self, **models: list[Deployment]) -> None:
        self.models = models
        self.asked = 0
        self.at = object()

    def router(self) -> object:
        return self.at

    def model_names(self) -> list[str]:
        return sorted(self.models)

    def routed(self, model: str, _kind: str, *, in_path: bool = False) -> str:
        return model

    def candidates(self, model: str) -> list[Deployment]:
        self.asked += 1
        return self.models.get(model, [])


def deployment(group: str = "m", model: str = "openai/m", **values: Any) -> Deployment:
    prices = {
        name: Decimal(value) for name, value in values.items() if name.startswith(("input", "output", "per"))
    }
    limits = {name: value for name, value in values.items() if name.startswith("max")}
    return Deployment(
        group,
        "id",
        model,
        None,
        limits.get("max_input_tokens"),
        limits.get("max_output_tokens"),
        UsdPrices(**prices),
        reasons=values.get("reasons", False),
    )
