"""Tokens that are locked to a gateway's key before they are needed, so that no mint stands before a call.

A pool is a few transfers of one proof each, whose reference names their gateway. Their nonces are random, and
in the store before the swap that makes them: a restore from the seed does not find them. So pools are small.
A token that was not needed is taken back with the wallet's own key when its lock is over.
"""

import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
import trio
from sqlalchemy import Connection, select, update

from otrta_core import P2PK, OtrtaError, Token, Unit, input_fee, read_lock
from otrta_wallet import Transfer, Wallet, store
from otrta_wallet.schema import transfers
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import Gateways

AT_HAND: Final = 2
"""How many tokens of a size are kept."""
SIZES: Final = 2
"""How many sizes are kept for a gateway: those of the calls made last."""
SHARE: Final = 4
"""A token is locked only where the wallet has this many times its amount."""
SPARE_S: Final = 6 * 3600
"""How much longer than the gateway asks a token is locked: so long it can be used."""
_MARGIN_S: Final = 60
_LOOK_EVERY_S = 2.0
_PAUSE_S: Final = 30.0
_LOCK: Final = "lock:"

_log = structlog.get_logger(__name__)

Place = tuple[str, str, Unit]
"""A gateway, and the mint and unit that it is paid in."""
Journal = Callable[[Connection, float, Transfer], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a locked token has to be.

    Attributes:
        place: who is paid, and in what.
        info: what the gateway says of itself.
        amount: what must remain after the token's input fee, in the unit.
        at_most: the largest token, in the unit.
    """

    place: Place
    info: GatewayInfo
    amount: int
    at_most: int


class LockedPool:
    """Locks tokens in the background, hands them out, and takes back those that were not needed."""

    def __init__(
        self,
        wallet: Wallet,
        gateways: Gateways,
        swapping: Mapping[tuple[str, Unit], trio.Lock],
        spare_s: int = SPARE_S,
    ) -> None:
        """Make a pool.

        Args:
            wallet: whose money it is.
            gateways: which of them it is on for.
            swapping: held while money is taken out by a swap, so that calls do not find an empty wallet.
            spare_s: how much longer than a gateway asks tokens are locked.
        """
        self._wallet = wallet
        self._gateways = gateways
        self._swapping = swapping
        self._spare_s = spare_s
        self._sizes: dict[Place, list[int]] = defaultdict(list)

    async def take(self, wanted: Wanted, payment_id: str, journal: Journal) -> Transfer | None:
        """Hand out the smallest token that is enough, with what ``journal`` writes; None where there is none.

        What was wanted is remembered: ``fill`` makes tokens of that size.
        """
        gateway, mint, unit = wanted.place
        if wanted.info.lock_key is None or not await self._gateways.locks(gateway):
            return None
        fees = self._wallet.mints.fee_ppk(mint)
        self._remember(wanted, max(fees.values(), default=0))

        def choose(conn: Connection, now: float) -> Transfer | None:
            fits = [
                each
                for each in _open(conn, gateway)
                if (each.mint, each.unit) == (mint, unit.value)
                and each.amount <= wanted.at_most
                and _is_good(each, wanted.info, now)
                and each.amount - input_fee(Token.parse(each.token or "").proofs, fees) >= wanted.amount
            ]
            if not fits:
                return None
            best = min(fits, key=lambda each: (each.amount, each.created_at))
            given = update(transfers).where(transfers.c.id == best.id, transfers.c.state == "open")
            conn.execute(given.values(reference=payment_id, changed_at=now))
            journal(conn, now, best)
            return best

        return await self._wallet.transactions.run(choose)

    async def run(self) -> None:
        """Keep the pool, until cancelled."""
        while True:
            await trio.sleep(random.SystemRandom().uniform(0.5, 1.5) * _LOOK_EVERY_S)
            try:
                done = await self.fill() and await self.take_back()
            except Exception as error:  # the background must outlive it
                _log.error("locked_pool_failed", error=type(error).__name__)
                done = False
            if not done:
                await trio.sleep(_PAUSE_S)

    async def fill(self) -> bool:
        """Lock what is missing; tells whether nothing failed."""
        done = True
        for place, sizes in list(self._sizes.items()):
            if not await self._gateways.locks(place[0]):
                continue
            try:
                info = await self._gateways.info(place[0])
                for size in list(sizes):
                    await self._fill(place, size, info)
            except OtrtaError as error:
                _log.info("token_not_locked", gateway=place[0], reason=error.code)
                done = False
        return done

    async def _fill(self, place: Place, size: int, info: GatewayInfo) -> None:
        gateway, mint, unit = place
        key = info.lock_key
        if key is None:
            return

        def missing(conn: Connection, now: float) -> int:
            good = [each for each in _open(conn, gateway) if _is_good(each, info, now)]
            return AT_HAND - sum(
                (each.mint, each.unit, each.amount) == (mint, unit.value, size) for each in good
            )

        for _ in range(await self._wallet.transactions.run(missing)):
            at_hand = sum(
                b.available for b in await self._wallet.balances() if (b.mint, b.unit) == (mint, unit.value)
            )
            if at_hand < SHARE * size:
                return
            until = int(self._wallet.transactions.now()) + info.lock.min_lock_s + _MARGIN_S + self._spare_s
            lock = P2PK(key, locktime=until, refund=(self._wallet.lock_keys.public,))
            memo = secrets.token_hex(16)
            async with self._swapping[mint, unit]:
                await self._wallet.send_locked(
                    mint, size, unit.value, lock, memo=memo, with_dleq=True, reference=_LOCK + gateway
                )

    async def take_back(self) -> bool:
        """Take back every token whose lock is over; tells whether nothing failed."""

        def over(conn: Connection, now: float) -> list[Transfer]:
            return [
                each for each in _open(conn) if (until := _locked_until(each)) is not None and until < now
            ]

        done = True
        for each in await self._wallet.transactions.run(over):
            try:
                await self._wallet.reclaim(each.id)
            except OtrtaError as error:
                _log.info("locked_token_not_taken_back", transfer=each.id, reason=error.code)
                done = False
        return done

    def _remember(self, wanted: Wanted, fee_ppk: int) -> None:
        size = 1 << (wanted.amount - 1).bit_length()
        if size - -(-fee_ppk // 1000) < wanted.amount:
            size *= 2
        sizes = self._sizes[wanted.place]
        if size in sizes:
            sizes.remove(size)
        sizes.insert(0, size)
        del sizes[SIZES:]


def in_pools(conn: Connection) -> list[tuple[str, Transfer, int]]:
    """Return what is locked for coming calls: the gateway, the transfer, and until when (unix seconds)."""
    found = [(each, _locked_until(each)) for each in _open(conn)]
    return [((each.reference or "").removeprefix(_LOCK), each, until) for each, until in found if until]


def put_back(conn: Connection, now: float, transfer_id: str, gateway: str) -> bool:
    """Put a locked token of which no byte has left back into its pool; False for one that is not locked."""
    transfer = next(iter(store.load_transfers(conn, transfer_id=transfer_id)), None)
    if transfer is None or _locked_until(transfer) is None:
        return False
    back = update(transfers).where(transfers.c.id == transfer_id, transfers.c.state == "open")
    conn.execute(back.values(reference=_LOCK + gateway, changed_at=now))
    return True


def _open(conn: Connection, gateway: str | None = None) -> list[Transfer]:
    of = transfers.c.reference.startswith(_LOCK, autoescape=True)
    ids = select(transfers.c.id).where(
        of if gateway is None else transfers.c.reference == _LOCK + gateway, transfers.c.state == "open"
    )
    found = [store.load_transfers(conn, transfer_id=each) for each in conn.execute(ids).scalars().all()]
    return [transfer for each in found for transfer in each]


def _is_good(transfer: Transfer, info: GatewayInfo, now: float) -> bool:
    """Tell whether a gateway takes a token now: locked to its key, for as long as it asks."""
    lock = _lock_of(transfer)
    if lock is None or lock.locktime is None:
        return False
    return lock.data == info.lock_key and lock.locktime >= now + info.lock.min_lock_s + _MARGIN_S


def _locked_until(transfer: Transfer) -> int | None:
    lock = _lock_of(transfer)
    return None if lock is None else lock.locktime


def _lock_of(transfer: Transfer) -> P2PK | None:
    if transfer.token is None:
        return None
    return read_lock(Token.parse(transfer.token).proofs[0].secret)


__all__ = ["LockedPool", "Wanted", "in_pools", "put_back"]
