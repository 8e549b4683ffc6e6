"""What may keep a token that could pay from its mint: who asks too often, mints that are away or full."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from otrta_core import Unit
from otrta_litellm.answers import GateError
from otrta_litellm.breaker import Breakers
from otrta_litellm.holdings import held_msat, pieces_held
from otrta_litellm.limits import Looks, RefusalBudget, UnpaidCalls
from otrta_litellm.refusals import mint_away
from otrta_litellm.settings import GatewaySettings
from otrta_wallet import MintError, MintRefused, TokenPending, TokenSpent, Wallet
from otrta_wallet.wallet import Incoming

PROBE_WITHIN_S = 5.0

CLAIM_LOOKS_PER_MINUTE = 12
CLAIM_LOOKS_PER_MINUTE_IN_ALL = 1200
"""How often mints are asked for strangers whether the change of a payment is spent."""


class Guards:
    """The bounds of one process; see ``otrta_litellm.limits`` and ``otrta_litellm.breaker``."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.unpaid = UnpaidCalls(settings.max_unpaid)
        self.breakers = Breakers()
        self.claim_looks = Looks(CLAIM_LOOKS_PER_MINUTE, CLAIM_LOOKS_PER_MINUTE_IN_ALL)
        self._budget = RefusalBudget(settings.refusals_per_minute, settings.refusals_per_minute_in_all)
        self._most_msat = settings.max_held_msat
        self._held_msat: dict[str, int] = {}

    @contextmanager
    def to_mint(self, address: str, incoming: Incoming, *, locked: bool = False) -> Iterator[None]:
        """Let a token that could pay go to its mint, and note what becomes of it.

        Args:
            address: of the caller, as ``address_of`` names it.
            incoming: the token.
            locked: whether it is locked to this gateway, so that its mint is not waited for.

        Raises:
            GateError: it may not now, and is untouched.
        """
        breaker = self.breakers.of(incoming.token.mint)
        with self.counted(address, locked=locked):
            if breaker.open and not locked:
                raise mint_away()
            self._hold(incoming)
            try:
                yield
            except GateError as error:
                if error.gate_code == "mint_unreachable":
                    breaker.failed()
                raise
            except (MintRefused, TokenSpent):
                breaker.answered()
                raise
        self._budget.paid(address)
        if not locked:
            breaker.answered()

    @contextmanager
    def counted(self, address: str, *, locked: bool) -> Iterator[None]:
        """Let a token go to its mint if not too many were refused, and count it if it is refused.

        Raises:
            GateError: too many were; this one is untouched.
        """
        self._budget.check(address, locked=locked)
        try:
            yield
        except (MintRefused, TokenSpent, TokenPending):
            self._budget.refused(address)
            raise

    def _hold(self, incoming: Incoming) -> None:
        mint = incoming.token.mint
        worth_msat = Unit.parse(incoming.token.unit).to_msat(incoming.token.amount)
        held_msat = self._held_msat.get(mint, 0)
        if self._most_msat is not None and held_msat + worth_msat > self._most_msat:
            raise GateError(
                "this gateway holds as much of this mint's e-cash as it wants to: the token is untouched; "
                "pay with another mint's, or try again later",
                code="mint_at_limit",
                status=503,
            )
        self._held_msat[mint] = held_msat + worth_msat  # until they are counted anew

    async def probe(self, wallet: Wallet) -> None:
        """Ask the mints that are away whether they are back."""

        async def ask(mint: str) -> None:
            breaker = self.breakers.of(mint)
            try:
                with anyio.fail_after(PROBE_WITHIN_S):
                    await wallet.mints.client(mint).info(tries=1)
            except (MintError, TimeoutError):
                breaker.failed()
            else:
                breaker.answered()

        async with anyio.create_task_group() as tasks:
            for mint in self.breakers.to_probe():
                tasks.start_soon(ask, mint)

    async def count_holdings(self, wallet: Wallet) -> None:
        """Count anew what is held of each mint, where that is bounded."""
        if self._most_msat is not None:
            self._held_msat = held_msat(await wallet.transactions.run(pieces_held))
