"""The wallet's actions by name: what the commands and the wallet page can do, and nothing else.

Each takes checked parameters and returns what JSON can hold. They run on the wallet itself, either in the
process of ``otrta serve``, asked over loopback with the local token, or in a command that opened the wallet.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from proxy_trio import budget_actions, directory_actions, lightning_actions, money_actions, seed_actions
from proxy_trio.action_params import (
    ActivityParams,
    AmountParams,
    ApprovalParams,
    ConfigKeyParams,
    ConfigSetParams,
    GatewayParams,
    HistoryParams,
    InvoiceParams,
    KeyNameParams,
    KeyParams,
    LockParams,
    NoParams,
    Params,
    PayParams,
    PlaceByProxyParams,
    QuoteIdParams,
    QuoteParams,
    ReceiveParams,
    RecoverParams,
    RestoreParams,
    SendParams,
    SentParams,
    SpendingParams,
    UrlParams,
)
from proxy_trio.client import Client
from proxy_trio.errors import ActionInvalid, ActionUnknown

_P = TypeVar("_P", bound=Params)


@dataclass(frozen=True, slots=True)
class Action:
    """One action: what it takes, and what it does."""

    params: type[Params]
    run: Callable[[Client, Any], Awaitable[Any]]


def _action(params: type[_P], run: Callable[[Client, _P], Awaitable[Any]]) -> Action:
    return Action(params, run)


ACTIONS: Final[Mapping[str, Action]] = {
    "balance": _action(NoParams, money_actions.balance),
    "receive": _action(ReceiveParams, money_actions.receive),
    "send": _action(SendParams, money_actions.send),
    "sent": _action(NoParams, money_actions.sent),
    "sent_show": _action(SentParams, money_actions.sent_show),
    "sent_cancel": _action(SentParams, money_actions.sent_cancel),
    "invoice": _action(AmountParams, money_actions.invoice),
    "invoice_show": _action(QuoteIdParams, money_actions.invoice_show),
    "claim_invoice": _action(QuoteIdParams, money_actions.claim_invoice),
    "pay_quote": _action(InvoiceParams, lightning_actions.pay_quote),
    "pay": _action(PayParams, lightning_actions.pay),
    "pay_status": _action(QuoteIdParams, lightning_actions.pay_status),
    "history": _action(HistoryParams, money_actions.history),
    "activity": _action(ActivityParams, money_actions.activity),
    "spending": _action(SpendingParams, money_actions.spending),
    "pending": _action(NoParams, money_actions.pending),
    "invoices": _action(NoParams, money_actions.invoices),
    "recover": _action(RecoverParams, money_actions.recover),
    "seed": _action(NoParams, seed_actions.seed),
    "restore": _action(RestoreParams, seed_actions.restore),
    "pubkey": _action(NoParams, money_actions.pubkey),
    "mints": _action(NoParams, directory_actions.mints),
    "mints_add": _action(PlaceByProxyParams, directory_actions.mints_add),
    "mints_remove": _action(UrlParams, directory_actions.mints_remove),
    "mints_info": _action(UrlParams, directory_actions.mints_info),
    "gateways": _action(NoParams, directory_actions.gateways),
    "gateways_add": _action(GatewayParams, directory_actions.gateways_add),
    "gateways_remove": _action(UrlParams, directory_actions.gateways_remove),
    "gateways_info": _action(UrlParams, directory_actions.gateways_info),
    "gateways_lock": _action(LockParams, directory_actions.gateways_lock),
    "gateways_trust": _action(UrlParams, directory_actions.gateways_trust),
    "quote": _action(QuoteParams, directory_actions.quote),
    "config": _action(NoParams, directory_actions.config),
    "config_get": _action(ConfigKeyParams, budget_actions.config_get),
    "config_set": _action(ConfigSetParams, budget_actions.config_set),
    "budgets": _action(NoParams, budget_actions.budgets),
    "pause": _action(NoParams, budget_actions.pause),
    "resume": _action(NoParams, budget_actions.resume),
    "keys": _action(NoParams, budget_actions.keys),
    "keys_add": _action(KeyParams, budget_actions.keys_add),
    "keys_set": _action(KeyParams, budget_actions.keys_set),
    "keys_remove": _action(KeyNameParams, budget_actions.keys_remove),
    "keys_rotate": _action(KeyNameParams, budget_actions.keys_rotate),
    "approvals": _action(NoParams, budget_actions.approvals_),
    "approve": _action(ApprovalParams, budget_actions.approve),
    "deny": _action(ApprovalParams, budget_actions.deny),
}


async def act(client: Client, name: str, params: object) -> Any:
    """Check the parameters of an action and carry it out.

    Cancelled, what moved money is journalled or done, as the wallet's own methods say.

    Raises:
        ActionUnknown: there is no action of this name.
        ActionInvalid: a parameter is missing, unknown or out of bounds.
        OtrtaError: the action could not be carried out; its message says what to do.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise ActionUnknown(f"There is no such wallet action. There are: {', '.join(ACTIONS)}.")
    try:
        checked = action.params.model_validate(params)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the parameters"
        raise ActionInvalid(f"{key}: {first['msg']}") from None
    return await action.run(client, checked)
