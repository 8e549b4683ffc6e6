"""Locked tokens: which are taken without asking their mint, and how much may be out at a time."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import anyio
import structlog
from sqlalchemy import Connection

from otrta_core import OtrtaError, Token, Unit
from otrta_litellm import losses
from otrta_litellm.locks import Locking, holds_until, locked_to, locking
from otrta_litellm.one_by_one import one_by_one
from otrta_litellm.refusals import lock_not_accepted, locks_wait, mint_away
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.swap_queue import SwapQueue, Ticket
from otrta_wallet import MintRefused, Operation, Wallet, journal, polling
from otrta_wallet.wallet import Incoming

_log = structlog.get_logger(__name__)

REDEEM_WITHIN_S = 5.0
"""How long change waits for its own token's swap, where there is no other money to make it of."""

LONGEST_PAUSE_S = 60.0
"""How long a locked token waits at most for its next try: its lock may end before long."""

NEEDED_NUTS = ("10", "11", "12")


@dataclass(frozen=True, slots=True)
class Tender:
    """A token that could be taken.

    Attributes:
        incoming: without witnesses, which nobody asked for.
        locked: whether it is locked to the gateway's key, so that its mint need not be asked first.
        locktime: the first at which somebody else could spend of it, in unix seconds; None for never.
    """

    incoming: Incoming
    locked: bool
    locktime: int | None = None

    def due_at(self, now: float) -> float | None:
        """Return when it has to be redeemed at the latest: by half of the time to its locktime."""
        return None if self.locktime is None else now + (self.locktime - now) / 2


class LockDesk:
    """Looks at locks, and has what was taken redeemed."""

    def __init__(self, settings: GatewaySettings, wallet: Wallet, queue: SwapQueue) -> None:
        self._settings = settings
        self._wallet = wallet
        self._queue = queue
        self._keeps_locks: dict[str, bool] = {}
        self._lying: frozenset[str] = frozenset()
        self._tickets: dict[str, Ticket] = {}

    @property
    def public_key(self) -> str:
        """The key that tokens are to be locked to."""
        return self._wallet.lock_keys.public

    def takes_locks_of(self, mint: str) -> bool:
        """Tell whether locked tokens of a mint are taken."""
        return self._keeps_locks.get(mint, False) and mint not in self._lying

    async def refresh(self) -> None:
        """Look which mints keep locks, by what they list; what cannot be asked stays as it was."""
        self._lying = await self._wallet.transactions.run(lambda conn, _now: frozenset(losses.mints(conn)))
        async with anyio.create_task_group() as tasks:
            for mint in self._wallet.mints.urls:
                tasks.start_soon(self._ask, mint)

    async def _ask(self, mint: str) -> None:
        try:
            info = await self._wallet.mints.info(mint)
        except OtrtaError:
            return
        self._keeps_locks[mint] = info.supports(*NEEDED_NUTS)

    def tender(self, incoming: Incoming) -> Tender:
        """Look at a token's locks.

        Raises:
            GateError: ``lock_not_accepted``, or its mint has not said yet whether it keeps locks.
        """
        policy, proofs = self._settings.lock, incoming.token.proofs
        if locking(proofs) is Locking.NONE:
            if policy == "required":
                raise lock_not_accepted("lock the token to this gateway's key, which /v1/cashu/info names")
            return Tender(incoming, locked=False)
        if policy == "off":
            raise lock_not_accepted("locked tokens are not taken here: send one without a lock")
        until = self._wallet.transactions.now() + self._settings.min_lock_s
        found = [lock for proof in proofs if (lock := locked_to(proof, {self.public_key})) is not None]
        if len(found) < len(proofs) or not all(holds_until(lock, until) for lock in found):
            raise lock_not_accepted(
                "every proof has to be locked to this gateway's key alone, in the form and for the time that "
                "/v1/cashu/info names"
            )
        self._check_mint(incoming, until)
        locktime = min((lock.locktime for lock in found if lock.locktime is not None), default=None)
        return Tender(unwitnessed(incoming), locked=True, locktime=locktime)

    def _check_mint(self, incoming: Incoming, until: float) -> None:
        mint = incoming.token.mint
        if mint not in self._keeps_locks:
            raise mint_away()
        if not self.takes_locks_of(mint):
            raise lock_not_accepted("locked tokens of this mint are not taken here: send one without a lock")
        keysets = self._wallet.mints.keysets(mint)
        ends = [keysets[proof.id].final_expiry for proof in incoming.token.proofs]
        if any(end is not None and end < until for end in ends):
            raise lock_not_accepted("the token's keyset ends too soon: send one without a lock")

    async def to_give_back(self, token: Token) -> bool:
        """Tell whether a token is locked to a key of this gateway, old or new, in the form that is taken."""
        keys = set(await self._wallet.lock_keys.all_public())
        return all(locked_to(proof, keys) is not None for proof in token.proofs)

    def check_room(self, conn: Connection, now: float, incoming: Incoming) -> None:
        """Check, in the transaction that takes a locked token, that not too much is out at all workers.

        Raises:
            GateError: 503, the token is untouched.
        """
        one_by_one(conn, "locked tokens")
        mint, settings = incoming.token.mint, self._settings
        lost = losses.of_mint(conn, mint)
        if lost:
            raise lock_not_accepted("locked tokens of this mint are not taken here: send one without a lock")
        out = journal.offline(conn)
        here = [operation for operation in out if operation.mint == mint]
        overdue = any(operation.due_at is not None and operation.due_at < now for operation in here)
        if overdue or (here and here[0].created_at < now - settings.lock_grace_s):
            raise locks_wait("locked tokens of this mint have waited too long for it")
        worth = Unit.parse(incoming.token.unit).to_msat(incoming.net)
        if (
            worth + _worth_msat(here) > settings.lock_max_mint_msat
            or worth + _worth_msat(out) > settings.lock_max_msat
        ):
            raise locks_wait("too many locked tokens wait for their mint")

    def redeem(self, payment_id: str, operation: Operation) -> None:
        """Have a locked token swapped in the background; whoever put it need not wait."""
        self._tickets[payment_id] = self._queue.put(operation)

    async def redeemed(self, payment_id: str) -> bool:
        """Wait a while for a token's swap, where one is under way; tells whether it brought proofs."""
        ticket = self._tickets.pop(payment_id, None)
        if ticket is None:
            return False
        try:
            with anyio.fail_after(REDEEM_WITHIN_S):
                await ticket.wait()
        except (OtrtaError, TimeoutError):
            return False
        return True

    def forget(self, payment_id: str) -> None:
        """Let go of a call that is over."""
        self._tickets.pop(payment_id, None)

    async def work_off(self) -> None:
        """Swap what could not be swapped before, when it is time for it, and note what is lost.

        What is due first goes first.
        """
        again: list[Ticket] = []
        found = await self._wallet.transactions.run(lambda conn, _now: journal.offline(conn))
        for operation in sorted(found, key=_due_first):
            if operation.state == "stored" and self._is_time(operation):
                with suppress(OtrtaError):  # its mint is away: the next round tries again
                    queued = await self._wallet.queue_again(operation.id)
                    again += [] if queued is None else [self._queue.put(queued)]
        for ticket in again:
            with suppress(OtrtaError):
                await self._ended(ticket)

    def _is_time(self, operation: Operation) -> bool:
        now = self._wallet.transactions.now()
        if operation.due_at is not None and operation.due_at < now:
            _log.warning("locked_token_overdue", mint=operation.mint, payment=operation.reference)
        return now < operation.changed_at or next_try(operation) <= now

    async def _ended(self, ticket: Ticket) -> None:
        """Wait for a swap; one that is refused again and again counts as lost."""
        try:
            await ticket.wait()
        except MintRefused as error:
            operation = ticket.operation
            if operation.created_at < self._wallet.transactions.now() - self._settings.lock_grace_s:
                await self._wallet.transactions.run(losses.record, operation, error.message)
                self._lying |= {operation.mint}
                _log.error("locked_token_lost", mint=operation.mint, payment=operation.reference)


def next_try(operation: Operation) -> float:
    """Return when a locked token that could not be swapped is tried again, in unix seconds.

    Ever more rarely with its age, though not beyond the time when it is due, and from then on at every turn.
    """
    tried_at = operation.changed_at
    at = min(polling.next_look(operation.created_at, tried_at), tried_at + LONGEST_PAUSE_S)
    return at if operation.due_at is None else min(at, max(operation.due_at, tried_at))


def _due_first(operation: Operation) -> tuple[float, float]:
    return math.inf if operation.due_at is None else operation.due_at, operation.created_at


def unwitnessed(incoming: Incoming) -> Incoming:
    """Return a token without the witnesses that its giver put into it: the lock is for us to open."""
    proofs = tuple(replace(proof, witness=None) for proof in incoming.token.proofs)
    return replace(incoming, token=replace(incoming.token, proofs=proofs))


def _worth_msat(operations: Sequence[Operation]) -> int:
    return sum(Unit.parse(operation.unit).to_msat(operation.amount) for operation in operations)
