"""Which gateway a call goes to, and whether another one may have it after a failure. Pure.

Those that sell the call come first, then those that are well, then those with a known price that the wallet
can pay. Among these the cheapest is taken; where prices are alike the one that had the last call keeps it,
else the fastest has it. What is a little cheaper elsewhere does not make calls wander: a gateway keeps them
until another one is cheaper by more than ``STAY_PPM``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from proxy_trio.health import Standing
from proxy_trio.offers import Offer
from proxy_trio.payer import Ending, Outcome
from proxy_trio.reckoning import json_or_none

ALIKE_PPM: Final = 20_000
"""Prices that differ by less are alike: the faster gateway is worth it."""
STAY_PPM: Final = 50_000
MOST_OVER_QUOTE: Final = 2
"""How many times its published price a gateway may ask for, since prices move."""
_MILLION: Final = 1_000_000

_TO_OTHERS: Final = frozenset({401, 402, 403, 404, 405, 408, 409, 425, 429})
"""Refusals below 500 that say nothing of the call itself, so that another gateway may well take it."""
_OF_PAYMENT: Final = frozenset(
    {
        "mint_not_accepted",
        "unit_not_accepted",
        "insufficient_payment",
        "lock_not_accepted",
        "dleq_invalid",
        "token_malformed",
        "token_invalid",
        "token_too_large",
        "token_uneconomic",
        "token_already_spent",
        "request_not_priceable",
    }
)
"""Codes of a 400 that are about the payment, or about what this gateway can sell."""
_BROKEN: Final = frozenset({Ending.UNREACHABLE, Ending.REDIRECTED, Ending.BROKE_OFF, Ending.TIMEOUT})


def in_order(
    offers: Sequence[Offer], standing: Callable[[str], Standing], favourite: str | None = None
) -> list[Offer]:
    """Return offers, the best first.

    Args:
        offers: in the order of the list, which decides where nothing else does.
        standing: of a gateway by its URL.
        favourite: the gateway that had the last call of this kind.
    """
    stands: Mapping[str, Standing] = {offer.url: standing(offer.url) for offer in offers}

    def group(offer: Offer) -> tuple[bool, bool, bool, bool]:
        unknown = offer.quote_msat is None
        return not offer.sold, stands[offer.url].resting, not unknown and not offer.sources, unknown

    found: list[Offer] = []
    for key in sorted({group(offer) for offer in offers}):
        found += _by_price([offer for offer in offers if group(offer) == key], stands, favourite)
    return found


def _by_price(offers: Sequence[Offer], stands: Mapping[str, Standing], favourite: str | None) -> list[Offer]:
    least = min(offer.quote_msat or 0 for offer in offers)

    def rank(offer: Offer) -> tuple[int, float, int]:
        price, latency_s = offer.quote_msat or 0, stands[offer.url].latency_s
        if offer.url == favourite and price * _MILLION <= least * (_MILLION + STAY_PPM):
            return 0, 0.0, 0
        if price * _MILLION <= least * (_MILLION + ALIKE_PPM):
            # one that was never tried is worth a try before a slow one
            return 1, latency_s or 0.0, price
        return 2, 0.0, price

    return sorted(offers, key=rank)


def asks_too_much(asked_msat: int, with_fee_msat: int | None) -> bool:
    """Tell whether what a refusal asks has nothing to do with what its gateway publishes.

    Args:
        asked_msat: what it asks.
        with_fee_msat: what it publishes for this call, as a face value; None where it publishes nothing.
    """
    return with_fee_msat is not None and asked_msat > MOST_OVER_QUOTE * with_fee_msat


def another_may_try(outcome: Outcome) -> bool:
    """Tell whether a call that ended so may be made at another gateway, once its payment is back.

    Not where the gateway has found the call itself to be wrong: the app is to hear that.
    """
    if outcome.ending in _BROKEN:
        return True
    status = outcome.status
    if outcome.ending is not Ending.COMPLETE or status is None or status < 400:
        return False
    return status >= 500 or status in _TO_OTHERS or (status == 400 and _code(outcome) in _OF_PAYMENT)


def is_back(*, paid_msat: int, fee_msat: int, change_msat: int | None) -> bool:
    """Tell whether nothing of a payment is left with a gateway but the mint's fee."""
    return change_msat is not None and change_msat >= paid_msat - fee_msat


def _code(outcome: Outcome) -> object:
    body = json_or_none(outcome.answer)
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("code") if isinstance(error, dict) else None
