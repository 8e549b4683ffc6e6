"""The gateway's own routes: what it sells, and the change of a token it took."""

from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from typing import Any

from otrta_core import Token
from otrta_litellm.answers import Answer, GateError, json_answer
from otrta_litellm.checkout import Checkout
from otrta_litellm.gateway import Gateway
from otrta_litellm.limits import address_of
from otrta_litellm.lock_desk import LockDesk, unwitnessed
from otrta_litellm.payments import Payment
from otrta_litellm.schema import PaymentState
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.way import CHANGE, INFO, REFUND, tokens_of


async def answer_route(gateway: Gateway, scope: MutableMapping[str, Any]) -> Answer:
    """Answer a request to one of the gateway's own paths.

    Raises:
        OtrtaError: the refusal.
    """
    path, method = scope["path"], scope["method"]
    if path == INFO and method in ("GET", "HEAD"):
        return json_answer(200, await info(gateway))
    if path in (CHANGE, REFUND) and method == "POST":
        address = address_of(scope.get("client"), scope["headers"], gateway.settings.trusted_proxies)
        return await change_of(gateway, tokens_of(scope["headers"]), address)
    raise GateError("this path takes another method", code="method_not_allowed", status=405)


async def info(gateway: Gateway) -> Mapping[str, Any]:
    """Return everything that a client needs to come to the same quote."""
    settings, checkout = gateway.settings, await gateway.checkout()
    acceptance = checkout.acceptance
    prices, until = await gateway.prices.shown((await gateway.wallet()).transactions)
    mints = []
    for url in settings.mints:
        if units := acceptance.units_of(url):
            fees = {unit.value: {"input_fee_ppk": fee_ppk} for unit, fee_ppk in units.items()}
            mints.append({"url": url, "units": fees})
    return {
        "name": "otrta",
        "version": version("otrta"),
        "unit": settings.unit.value,
        "mints": mints,
        "lock": _lock(settings, checkout.locks),
        "change": ["header", "sse"],
        "limits": {"max_token_bytes": settings.max_token_bytes, "max_proofs": settings.max_proofs},
        "rounding": settings.rounding,
        "default_output_tokens": settings.default_output_tokens,
        "min_output_tokens": settings.min_output_tokens,
        "claim_days": settings.claim_days,
        "prices_until": int(until),
        "paths": {kind: limits.model_dump(exclude_none=True) for kind, limits in settings.paths.items()},
        "models": [{"id": name, **price.to_dict()} for name, price in prices.items()],
    }


async def change_of(gateway: Gateway, values: list[str], address: str) -> Answer:
    """Return what became of a token: 200 with its change, 202 while its call runs, 404 if never taken.

    One that was never taken and is locked to this gateway's key, so that its owner cannot use it, is redeemed
    and given back without the lock.

    Raises:
        OtrtaError: not a token, only part of a payment's proofs, or one that cannot be redeemed.
    """
    checkout = await gateway.checkout()
    token = checkout.acceptance.read_token(values)
    payment = await checkout.acceptance.taken_before(token)
    if payment is None:
        with gateway.guards.counted(address, locked=True):
            payment = await _given_back(checkout, token)
    payment = await gateway.see_claims(payment)
    body: dict[str, Any] = {
        "state": _word(payment),
        "paid_msat": payment.paid_msat,
        "cost_msat": payment.cost_msat,
        "fee_msat": payment.fee_msat,
        "change_msat": payment.change_msat,
    }
    running = payment.state not in (PaymentState.SETTLED, PaymentState.CLAIMED)
    return json_answer(202 if running or payment.change_due else 200, body, cashu=payment.change_token)


async def _given_back(checkout: Checkout, token: Token) -> Payment:
    if not await checkout.locks.to_give_back(token):
        raise GateError("this gateway never took this token", code="payment_not_found", status=404)
    incoming = await checkout.acceptance.present(token)
    return await checkout.redemption.give_back(unwitnessed(incoming))


def _lock(settings: GatewaySettings, locks: LockDesk) -> Mapping[str, Any]:
    if settings.lock == "off":
        return {"policy": "off"}
    return {"policy": settings.lock, "pubkey": locks.public_key, "min_lock_s": settings.min_lock_s}


def _word(payment: Payment) -> str:
    if payment.change_due:
        return "owed"
    if payment.state in (PaymentState.SETTLED, PaymentState.CLAIMED):
        return payment.state.value
    return PaymentState.REDEEMED.value
