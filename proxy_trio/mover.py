"""Moving value between the wallet's own mints: one mint pays the other's invoice over Lightning.

A move is a row before anything leaves. From then on the wallet's own journal carries it: it ends the payment
and has the e-cash issued, in this run or the next, and the move's row changes in the same transactions.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio
from sqlalchemy import Connection

from otrta_core import OtrtaError, Unit, format_msat
from otrta_core.proof import fee_of_ppk
from otrta_wallet import NotEnoughFunds, Operation, OutcomeUnknown, QuoteNotPaid, Wallet, quotes
from proxy_trio import moves
from proxy_trio.asking import Source
from proxy_trio.errors import MoveTooDear
from proxy_trio.move_plan import Holding, MovePlan, MoveRules, plan_move
from proxy_trio.moves import Move, MoveState

REST_S: Final = 300.0
"""After a move failed, nothing is moved by itself for so long."""
_ARRIVES_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.5
_PROOFS: Final = 64

_log = structlog.get_logger(__name__)


class Mover:
    """Moves value between mints, one move at a time. ``swap_now`` swaps kept change at a mint."""

    def __init__(
        self, wallet: Wallet, rules: MoveRules, swap_now: Callable[[str, str], Awaitable[bool]]
    ) -> None:
        self._wallet = wallet
        self._rules = rules
        self._swap_now = swap_now
        self._one = trio.Lock()
        self._rests_until = float("-inf")
        self._running: set[str] = set()

    async def bring(self, targets: Sequence[Source], needed_msat: int) -> bool:
        """Move value to where a payment may come from; tells whether there is enough now.

        It never raises for what mints do. If cancelled, what has begun is ended by ``recover``.

        Args:
            targets: mints and units that are taken, best first.
            needed_msat: what the payment takes.
        """
        async with self._one:
            if trio.current_time() < self._rests_until:
                return False
            holdings = await self._holdings()
            if any((h.mint, h.unit) in targets and h.available_msat >= needed_msat for h in holdings):
                return True
            plan = plan_move(holdings, targets, needed_msat, self._rules)
            if plan is None:
                return False
            try:
                move = await self._move(plan, self._rules.most_fee_msat(plan.amount_msat))
            except OtrtaError as error:
                self._rests_until = trio.current_time() + REST_S
                _log.warning("value_not_moved", reason=error.code)
                return False
            return move.state is MoveState.DONE

    async def top_up(self, targets: Sequence[Source]) -> bool:
        """Move a float to where calls are paid from, before one needs it; returns as ``bring``."""
        return await self.bring(targets, self._rules.float_msat // 2) if self._rules.float_msat else False

    async def move(self, plan: MovePlan, most_fee_msat: int | None = None) -> Move:
        """Move value as a person asks for; returns the move, done or on its way.

        Raises:
            MoveTooDear: it may cost more than is allowed; nothing has left.
            NotEnoughFunds, MintError, WalletError: it could not be made; nothing but a swap's fee has left.
        """
        async with self._one:
            most = self._rules.most_fee_msat(plan.amount_msat) if most_fee_msat is None else most_fee_msat
            return await self._move(plan, most)

    async def drop_unbegun(self) -> None:
        """Give up moves that were planned in an earlier life, of which nothing has left."""

        def drop(conn: Connection, now: float) -> None:
            for move in moves.with_states(conn, MoveState.PLANNED):
                if move.id not in self._running:
                    _give_up(conn, now, move.id, move.mint_quote_id, "it was not begun")

        await self._wallet.transactions.run(drop)

    async def _holdings(self) -> list[Holding]:
        return [
            Holding(each.mint, (unit := Unit.parse(each.unit)), unit.to_msat(each.available))
            for each in await self._wallet.balances()
        ]

    async def _move(self, plan: MovePlan, most_fee_msat: int) -> Move:
        (from_mint, from_unit), (to_mint, to_unit) = plan.source, plan.target
        asked = await self._wallet.request_invoice(to_mint, to_unit.at_least(plan.amount_msat), to_unit)
        amount_msat = to_unit.to_msat(asked.amount)
        try:
            offer = await self._wallet.request_melt(from_mint, asked.request, from_unit)
            dearest_ppk = max(self._wallet.mints.fee_ppk(from_mint).values(), default=0)
            inputs = 2 * fee_of_ppk(_PROOFS * dearest_ppk)  # of the payment, and of the swap before it
            may_cost = from_unit.to_msat(offer.amount + offer.fee_reserve + inputs) - amount_msat
            if may_cost > most_fee_msat:
                raise MoveTooDear(
                    f"Moving {format_msat(amount_msat)} may cost {format_msat(may_cost)}, and "
                    f"{format_msat(most_fee_msat)} is allowed: see `moves.max_fee_ppm` and "
                    "`moves.max_fee_sat` in config.toml."
                )
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._wallet.transactions.run(_let_lapse, asked.id)
            raise
        move_id = await self._wallet.transactions.run(
            lambda conn, now: self._note(
                moves.begin(
                    conn,
                    now,
                    from_mint=from_mint,
                    from_unit=from_unit.value,
                    to_mint=to_mint,
                    to_unit=to_unit.value,
                    amount_msat=amount_msat,
                    most_fee_msat=may_cost,
                    mint_quote_id=asked.id,
                    melt_quote_id=offer.id,
                )
            )
        )
        try:
            await self._pay(move_id, plan.source, asked.id, offer.id)
        finally:
            self._running.discard(move_id)
        return await self._arrive(move_id, asked.id)

    def _note(self, move_id: str) -> str:
        self._running.add(move_id)
        return move_id

    async def _pay(self, move_id: str, source: Source, asked_id: str, offer_id: str) -> None:
        def paying(conn: Connection, now: float, _operation: Operation) -> None:
            moves.change(conn, now, move_id, was=(MoveState.PLANNED,), now_is=MoveState.PAYING)

        try:
            try:
                await self._wallet.melt(offer_id, reference=move_id, also=paying)
            except NotEnoughFunds:
                # some of what is available may be change that waits for its swap
                if not await self._swap_now(source[0], source[1].value):
                    raise
                await self._wallet.melt(offer_id, reference=move_id, also=paying)
        except OutcomeUnknown:
            return  # it is on its way: recovery ends it
        except BaseException as error:
            reason = error.message if isinstance(error, OtrtaError) else "it was interrupted"
            with trio.CancelScope(shield=True):
                await self._wallet.transactions.run(_give_up, move_id, asked_id, reason)
            raise

    async def _arrive(self, move_id: str, asked_id: str) -> Move:
        """Have the e-cash of a paid move issued, and wait for a mint that hears of the payment late."""
        with trio.move_on_after(_ARRIVES_WITHIN_S):
            while True:
                try:
                    await self._wallet.claim_quote(asked_id)
                    break
                except QuoteNotPaid:
                    await trio.sleep(_LOOK_EVERY_S)
                except OtrtaError:
                    break  # recovery asks again
        return await self._wallet.transactions.run(lambda conn, _now: moves.load(conn, move_id))


def _give_up(conn: Connection, now: float, move_id: str, asked_id: str, reason: str) -> None:
    """Give up a move of which nothing has left."""
    was = (MoveState.PLANNED,)
    if moves.change(conn, now, move_id, was=was, now_is=MoveState.FAILED, reason=reason):
        _let_lapse(conn, now, asked_id)


def _let_lapse(conn: Connection, _now: float, asked_id: str) -> None:
    """Stop asking for an invoice that nobody will pay."""
    quotes.set_quote_state(conn, asked_id, was=("open",), now_is="expired")
