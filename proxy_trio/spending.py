"""The choke point: whether money may leave for a call, asked in the transaction in which it leaves.

Pause switch, app key, models, budgets and approval are looked at together, under the lock that SQLite gives
to one writer at a time, and the payment's row is written by the same transaction: two calls at once cannot
both get the last of a budget. What cannot be read or reckoned raises, and so nothing leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete

from otrta_wallet import store
from otrta_wallet.schema import settings as settings_table
from proxy_trio import app_keys, approvals, calls
from proxy_trio.app_keys import AppKey
from proxy_trio.approvals import Approval, ApprovalNeeded, Ask
from proxy_trio.budget import Account, Limits, Window, begins, check
from proxy_trio.client_settings import ClientSettings, as_msat
from proxy_trio.errors import KeyRefused, ModelNotAllowed, SpendingPaused
from proxy_trio.model_names import allows

_PAUSED: Final = "spending_paused"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the choke point says of a payment.

    Attributes:
        at_most_msat: the most that one payment may be now; None where nothing bounds it.
        approval: that lets it pass, where it needs one.
    """

    at_most_msat: int | None
    approval: Approval | None


class Spending:
    """What may leave for calls. ``settings`` are those in force, and can be put in place of while it runs."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings

    @property
    def approval_wait_s(self) -> float:
        """How long a call is held until it is approved."""
        return self.settings.budgets.approval_wait_s

    def admit(self, key: AppKey | None, model: str | None) -> None:
        """Refuse a model that may not be paid for, before anybody is asked for it.

        Raises:
            ModelNotAllowed: by the settings, or by the app's key.
        """
        if model is None:
            return
        models = self.settings.budgets.models
        if not allows(None if models == "any" else models, model):
            raise ModelNotAllowed(
                f"The model {_short(model)} is not among those that may be paid for: "
                "`otrta config get budgets.models`."
            )
        if key is not None and not allows(key.models, model):
            raise ModelNotAllowed(
                f"The key {key.name} may not pay for the model {_short(model)}: `otrta keys set {key.name} "
                "--model NAME` names those it may."
            )

    def allow(self, conn: Connection, now: float, ask: Ask) -> Allowance:
        """Allow a payment or refuse it, inside the transaction that makes it.

        Raises:
            SpendingPaused: everything is paused.
            KeyRefused: the app's key was removed, or its time is over.
            ModelNotAllowed: the model is on no list that must have it.
            BudgetExceeded: it would go beyond a budget.
            ApprovalNeeded: the user is to be asked first.
            ApprovalDenied: the user was asked and said no.
        """
        if paused_since(conn) is not None:
            raise SpendingPaused("All spending is paused. `otrta config resume` lets calls be paid again.")
        key = _key(conn, now, ask.key_id)
        self.admit(key, ask.model)
        at_most = check(ask.amount_msat, self.accounts(conn, now, key), now)
        threshold_msat = as_msat(self.settings.budgets.approve_above_sat)
        if threshold_msat is None:
            return Allowance(at_most, None)
        if ask.amount_msat <= threshold_msat:
            return Allowance(_least(at_most, threshold_msat), None)
        approval = approvals.granted(conn, now, ask, self.settings.budgets.approval_minutes * 60)
        if approval is None:
            raise ApprovalNeeded
        return Allowance(_least(at_most, approval.amount_msat), approval)

    def accounts(self, conn: Connection, now: float, key: AppKey | None) -> list[Account]:
        """Return the limits that a call counts against, with what was spent: of all calls, and of its key."""
        accounts = [_account(conn, now, None, self.settings.limits)]
        if key is not None:
            accounts.append(_account(conn, now, key, key.limits))
        return accounts


def pause(conn: Connection, now: float) -> float:
    """Let nothing leave for calls from now on; returns since when, in unix seconds."""
    if (since := paused_since(conn)) is not None:
        return since
    store.put_setting(conn, _PAUSED, repr(now))
    return now


def resume(conn: Connection, _now: float) -> None:
    """Let calls be paid again."""
    conn.execute(delete(settings_table).where(settings_table.c.name == _PAUSED))


def paused_since(conn: Connection) -> float | None:
    """Return since when spending is paused, in unix seconds; None where it is not."""
    told = store.get_setting(conn, _PAUSED)
    return None if told is None else float(told)


def account_of(conn: Connection, now: float, key: AppKey | None, limits: Limits) -> Account:
    """Return limits with what was spent in every window, for people to see."""
    return _account(conn, now, key, limits, tuple(Window))


def _account(
    conn: Connection, now: float, key: AppKey | None, limits: Limits, windows: Sequence[Window] | None = None
) -> Account:
    asked = limits.windows if windows is None else windows
    since = [begins(window, now) for window in asked]
    sums = calls.spent_since(conn, since, None if key is None else key.id)
    return Account(None if key is None else key.name, limits, dict(zip(asked, sums, strict=True)))


def _key(conn: Connection, now: float, key_id: str | None) -> AppKey | None:
    if key_id is None:
        return None
    key = app_keys.by_id(conn, key_id)
    if key is None:
        raise KeyRefused("This is no key of this proxy: see `otrta keys`.")
    key.check(now)
    return key


def _least(at_most: int | None, other: int) -> int:
    return other if at_most is None else min(at_most, other)


def _short(model: str) -> str:
    return model if len(model) <= 80 else f"{model[:80]}…"
