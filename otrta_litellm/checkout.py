"""All that a call passes before LiteLLM gets it: its price, its token, its payment."""

from dataclasses import dataclass

from otrta_litellm.acceptance import Acceptance
from otrta_litellm.lock_desk import LockDesk
from otrta_litellm.redemption import Redemption
from otrta_litellm.terms import Quotes


@dataclass(frozen=True, slots=True)
class Checkout:
    """The steps, each with what it knows.

    Attributes:
        quotes: what a call may cost.
        acceptance: whether a token can pay for it.
        locks: whether and how it is locked.
        redemption: makes a payment of the token.
    """

    quotes: Quotes
    acceptance: Acceptance
    locks: LockDesk
    redemption: Redemption
