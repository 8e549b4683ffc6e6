"""The wallet that both sides run: a mint client, a store, and a journal that loses nothing.

Everything asynchronous runs unchanged under asyncio and Trio, through anyio.
"""

from otrta_wallet.errors import (
    MintError,
    MintNotKnown,
    MintRefused,
    MintUnreachable,
    NotEnoughFunds,
    OutcomeUnknown,
    QuoteNotPaid,
    StoreUnavailable,
    TokenPending,
    TokenSpent,
    TokenUneconomic,
    UnitMismatch,
    WalletBusy,
    WalletError,
)
from otrta_wallet.records import MintBalance, Operation, Quote, Transfer
from otrta_wallet.wallet import Wallet

__all__ = [
    "MintBalance",
    "MintError",
    "MintNotKnown",
    "MintRefused",
    "MintUnreachable",
    "NotEnoughFunds",
    "Operation",
    "OutcomeUnknown",
    "Quote",
    "QuoteNotPaid",
    "StoreUnavailable",
    "TokenPending",
    "TokenSpent",
    "TokenUneconomic",
    "Transfer",
    "UnitMismatch",
    "Wallet",
    "WalletBusy",
    "WalletError",
]
