"""What happens to payments when the wallet's operations end: committed together with them."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from otrta_core import Unit
from otrta_wallet import Operation, journal, store
from otrta_wallet.decisions import Verdict
from otrta_wallet.schema import ProofStatus
from proxy_trio import calls, moves
from proxy_trio.bookkeeper import take_off
from proxy_trio.schema import CallState


class ClientParticipant:
    """Closes payments whose token came back or whose change was swapped, disputes those that lost it."""

    def __init__(self, clock: Callable[[], float], give_up: Callable[[Connection, float, str], None]) -> None:
        """Make a participant.

        Args:
            clock: unix time.
            give_up: closes a transfer and erases its token, inside the caller's transaction.
        """
        self._clock = clock
        self._give_up = give_up

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """Swapped change is proof that the gateway has taken the token; a reclaimed token is ours again."""
        if operation.kind == "mint" and operation.quote_id is not None:
            moves.arrived(conn, self._clock(), operation.quote_id)
        if operation.reference is None:
            return
        if operation.kind == "melt":
            moves.payment_done(conn, self._clock(), operation)
        elif operation.kind == "redeem":
            call = _load(conn, operation.reference)
            if call is not None and call.state is CallState.DONE:
                self._give_up(conn, self._clock(), call.transfer_id)
        elif operation.kind == "reclaim":
            self._taken_back(conn, operation)

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """Change that was spent before we could swap it was never ours to have."""
        if operation.kind == "melt":
            moves.payment_failed(conn, self._clock(), operation)
        if operation.kind == "redeem" and verdict is Verdict.FAIL_SPENT and operation.reference is not None:
            ys = journal.parts(conn, operation.id)[0]
            known = store.proofs_by_y(conn, ys).values()
            rest = sum(proof.amount for proof, status, _ in known if status is ProofStatus.INCOMING)
            lost = operation.amount + operation.fee - rest
            take_off(conn, self._clock(), operation.reference, lost, "the change had been spent already")

    def _taken_back(self, conn: Connection, operation: Operation) -> None:
        transfer = next(iter(store.load_transfers(conn, transfer_id=operation.reference)), None)
        call = _load(conn, transfer.reference) if transfer is not None and transfer.reference else None
        if call is None:
            if transfer is not None and transfer.reference and operation.fee:  # of a pool of locked tokens
                place = {"unit": operation.unit, "mint": operation.mint}
                store.record(conn, "swap", -operation.fee, fee=operation.fee, now=self._clock(), **place)
            return
        unit = Unit.parse(operation.unit)
        back_msat = unit.to_msat(operation.amount)
        values: dict[str, Any] = {"change_msat": (call.change_msat or 0) + back_msat}
        if back_msat + unit.to_msat(operation.fee) == call.paid_msat:
            values |= {
                "state": CallState.REFUNDED,
                "cost_msat": 0,
                "fee_msat": unit.to_msat(operation.fee),
                "missing_msat": None,
                "reason": "the token was taken back",
            }
        else:  # a part of it had been spent
            values["missing_msat"] = call.missing_msat and max(0, call.missing_msat - back_msat)
        was = (*calls.OPEN, CallState.DISPUTED, CallState.DONE)
        calls.change(conn, self._clock(), call.id, was=was, **values)


def _load(conn: Connection, call_id: str) -> calls.PaidCall | None:
    try:
        return calls.load(conn, call_id)
    except KeyError:
        return None
