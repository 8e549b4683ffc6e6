"""What an operator asks of a gateway and tells it: its balance, its payments, its payouts, its recovery."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, and_, func, select

from otrta_core import OtrtaError, Unit
from otrta_litellm import payout_rows
from otrta_litellm.gateway import Gateway
from otrta_litellm.payout_rows import Payout
from otrta_litellm.schema import PaymentState, losses, payments
from otrta_wallet import at_hand, journal, store
from otrta_wallet.schema import ProofStatus, operations, proofs

MOST_ROWS: Final = 1000

_RUNNING: Final = (PaymentState.RECEIVED, PaymentState.REDEEMING, PaymentState.REDEEMED)
_OWN_SWAPS: Final = ("swap", "lock", "reclaim")
_NEVER_TAKEN: Final = (PaymentState.RECEIVED, PaymentState.REDEEMING, PaymentState.REJECTED)


class AskedWrongly(OtrtaError):
    """What the operator's program asked for is no request of the gateway."""

    code = "invalid_request"


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Payments(_Asked):
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 100
    state: PaymentState | None = None
    model: Annotated[str | None, Field(max_length=256)] = None


class _Offer(_Asked):
    to: Annotated[str, Field(min_length=1, max_length=8192)]
    amount_msat: Annotated[int | None, Field(ge=1, le=2**63 - 1)] = None
    mint: Annotated[str | None, Field(max_length=2048)] = None
    unit: Unit | None = None


class _Pay(_Asked):
    id: Annotated[str, Field(min_length=1, max_length=64)]


class _Limit(_Asked):
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 100


class _Nothing(_Asked):
    pass


Method = Literal["GET", "POST"]


class Desk:
    """The operator's side of one gateway; answers are ready for JSON, amounts in msat."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def do(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an action by its name.

        Raises:
            AskedWrongly: there is no such action, or it was asked for wrongly.
            OtrtaError: it could not be carried out.
        """
        try:
            match action:
                case "balance":
                    _Nothing.model_validate(asked)
                    return await self.balance()
                case "payments":
                    return await self.payments(_Payments.model_validate(asked))
                case "payouts":
                    found = await (await self._gateway.payouts()).newest(_Limit.model_validate(asked).limit)
                    return {"payouts": [_told(payout) for payout in found]}
                case "payout/offer":
                    offer = _Offer.model_validate(asked)
                    unit = None if offer.unit is None else offer.unit.value
                    payouts = await self._gateway.payouts()
                    made = await payouts.offer(offer.to, offer.amount_msat, mint=offer.mint, unit=unit)
                    return _told(made)
                case "payout/pay":
                    payouts = await self._gateway.payouts()
                    payout, token = await payouts.pay(_Pay.model_validate(asked).id)
                    return {**_told(payout), "token": token}
                case "payout/cancel":
                    payouts = await self._gateway.payouts()
                    return _told(await payouts.cancel(_Pay.model_validate(asked).id))
                case "recover":
                    _Nothing.model_validate(asked)
                    return await self.recover()
        except ValidationError as invalid:
            field = ".".join(map(str, invalid.errors()[0]["loc"])) or "the request"
            raise AskedWrongly(f"{field} is missing, unknown or out of range") from None
        raise AskedWrongly("there is no such action")

    async def balance(self) -> dict[str, Any]:
        """Return what is at each mint in each unit, what callers may have to get of it, and the sums."""
        wallet = await self._gateway.wallet()
        mints = await wallet.transactions.run(lambda conn, _now: _balance(conn))
        sums = {key: sum(row[key] for row in mints) for key in _COLUMNS}
        return {**sums, "mints": mints}

    async def payments(self, asked: _Payments) -> dict[str, Any]:
        """Return the newest payments, without anything that could be spent."""
        wallet = await self._gateway.wallet()
        return {"payments": await wallet.transactions.run(lambda conn, _now: _newest(conn, asked))}

    async def recover(self) -> dict[str, Any]:
        """End now what is open, and say what that changed."""
        wallet = await self._gateway.wallet()
        before = await wallet.transactions.run(lambda conn, _now: _open(conn))
        found = await self._gateway.recover()
        after = await wallet.transactions.run(lambda conn, _now: _open(conn))
        return {
            "swaps": asdict(found),
            "running": {"before": before[0], "after": after[0]},
            "owed_msat": {"before": before[1], "after": after[1]},
        }


ACTIONS: Final[Mapping[str, Method]] = {
    "balance": "GET",
    "payments": "GET",
    "payouts": "GET",
    "payout/offer": "POST",
    "payout/pay": "POST",
    "payout/cancel": "POST",
    "recover": "POST",
}

_COLUMNS: Final = (
    "float_msat",
    "free_msat",
    "pending_msat",
    "locked_waiting_msat",
    "owed_msat",
    "running_msat",
    "change_out_msat",
    "earned_msat",
    "lost_msat",
    "locked_lost_msat",
    "input_fees_msat",
    "swap_fees_msat",
    "paid_out_msat",
    "payout_fees_msat",
)


def _balance(conn: Connection) -> list[dict[str, Any]]:
    """The sums of each mint and unit that anything is or was at."""
    taken = payments.c.state.not_in(_NEVER_TAKEN)
    out = and_(payments.c.state == PaymentState.SETTLED, payments.c.change_token.is_not(None))
    by_place = _sums(
        conn,
        owed_msat=func.sum(payments.c.change_msat).filter(payments.c.change_due),
        running_msat=func.sum(payments.c.paid_msat).filter(payments.c.state.in_(_RUNNING)),
        change_out_msat=func.sum(payments.c.change_msat).filter(out),
        earned_msat=func.sum(payments.c.cost_msat).filter(taken),
        lost_msat=func.sum(payments.c.excess_msat).filter(taken),
        input_fees_msat=func.sum(payments.c.fee_msat).filter(taken),
    )
    swaps = (
        select(operations.c.mint, operations.c.unit, func.sum(operations.c.fee))
        .where(operations.c.state == "done", operations.c.kind.in_(_OWN_SWAPS))
        .group_by(operations.c.mint, operations.c.unit)
    )
    for mint, unit, fee in conn.execute(swaps):
        by_place.setdefault((mint, unit), {})["swap_fees_msat"] = Unit.parse(unit).to_msat(int(fee))
    for place, (paid, fee) in payout_rows.sums_paid(conn).items():
        by_place.setdefault(place, {}).update(paid_out_msat=paid, payout_fees_msat=fee)
    for there in store.balances(conn):
        unit = Unit.parse(there.unit)
        at_hand_msat = unit.to_msat(at_hand.worth(conn, there.mint, there.unit))
        all_msat = unit.to_msat(there.available + there.pending + there.dust)
        by_place.setdefault((there.mint, there.unit), {}).update(
            float_msat=at_hand_msat,
            pending_msat=all_msat - at_hand_msat - _handed_out(conn, there.mint, unit),
        )
    for waiting in journal.offline(conn):
        sums = by_place.setdefault((waiting.mint, waiting.unit), {})
        worth = Unit.parse(waiting.unit).to_msat(waiting.amount)
        sums["locked_waiting_msat"] = sums.get("locked_waiting_msat", 0) + worth
    not_redeemed = (
        select(payments.c.mint, payments.c.unit, func.sum(losses.c.amount_msat))
        .join(losses, losses.c.payment_id == payments.c.id)
        .where(~losses.c.made_good)
        .group_by(payments.c.mint, payments.c.unit)
    )
    for mint, unit, lost in conn.execute(not_redeemed):
        by_place.setdefault((mint, unit), {})["locked_lost_msat"] = int(lost)
    found = []
    for (mint, unit_word), sums in sorted(by_place.items()):
        free = max(0, payout_rows.free_msat(conn, mint, unit_word))
        pieces = _pieces(conn, mint, unit_word)
        row = {key: sums.get(key, 0) for key in _COLUMNS} | {"free_msat": free}
        found.append({"url": mint, "unit": unit_word, **row, "float": pieces})
    return found


def _sums(conn: Connection, **columns: Any) -> dict[tuple[str, str], dict[str, int]]:
    query = select(payments.c.mint, payments.c.unit, *columns.values()).group_by(
        payments.c.mint, payments.c.unit
    )
    rows = conn.execute(query).all()
    return {(r[0], r[1]): dict(zip(columns, (int(n or 0) for n in r[2:]), strict=True)) for r in rows}


def _handed_out(conn: Connection, mint: str, unit: Unit) -> int:
    """What is out as change or as tokens, in msat: it is nobody's here any more, and only watched."""
    query = select(func.coalesce(func.sum(proofs.c.amount), 0)).where(
        proofs.c.status == ProofStatus.SENT, proofs.c.mint == mint, proofs.c.unit == unit.value
    )
    return unit.to_msat(int(conn.execute(query).scalar_one()))


def _pieces(conn: Connection, mint: str, unit: str) -> dict[str, int]:
    """How many proofs of each amount change can be made from."""
    query = (
        select(proofs.c.amount, func.count())
        .where(proofs.c.status == ProofStatus.AVAILABLE, proofs.c.mint == mint, proofs.c.unit == unit)
        .group_by(proofs.c.amount)
        .order_by(proofs.c.amount)
    )
    return {str(amount): int(number) for amount, number in conn.execute(query)}


def _open(conn: Connection) -> tuple[int, int]:
    """How many calls run or died, and what is owed, in msat."""
    running = select(func.count()).where(payments.c.state.in_(_RUNNING))
    owed = select(func.coalesce(func.sum(payments.c.change_msat), 0)).where(payments.c.change_due)
    return int(conn.execute(running).scalar_one()), int(conn.execute(owed).scalar_one())


def _newest(conn: Connection, asked: _Payments) -> list[dict[str, Any]]:
    shown = (
        "id",
        "state",
        "path",
        "model",
        "mint",
        "unit",
        "paid_msat",
        "cost_msat",
        "fee_msat",
        "change_msat",
        "excess_msat",
        "change_due",
        "outcome",
        "created_at",
        "changed_at",
    )
    query = select(*(payments.c[name] for name in shown)).order_by(payments.c.created_at.desc())
    if asked.state is not None:
        query = query.where(payments.c.state == asked.state)
    if asked.model is not None:
        query = query.where(payments.c.model == asked.model)
    return [dict(zip(shown, row, strict=True)) for row in conn.execute(query.limit(asked.limit))]


def _told(payout: Payout) -> dict[str, Any]:
    told = asdict(payout)
    del told["quote_id"]
    return {**told, "state": payout.state.value}
