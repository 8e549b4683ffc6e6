"""The wallet that both sides run: a mint client, a store, and a journal that loses nothing.

Everything asynchronous runs unchanged under asyncio and Trio, through anyio.
"""

from otrta_wallet.errors import (
    InvoicePaid,
    MintError,
    MintNotKnown,
    MintRefused,
    MintUnreachable,
    NotEnoughFunds,
    OutcomeUnknown,
    PaymentFailed,
    QuoteExpired,
    QuoteNotPaid,
    SeedInUse,
    StoreUnavailable,
    TokenPartlyTaken,
    TokenPending,
    TokenSpent,
    TokenUneconomic,
    UnitMismatch,
    WalletBusy,
    WalletError,
)
from otrta_wallet.receiving import Received
from otrta_wallet.records import (
    Melt,
    MeltQuote,
    MintBalance,
    Operation,
    Quote,
    Restored,
    ScannedKeyset,
    Transfer,
)
from otrta_wallet.wallet import Wallet

__all__ = [
    "InvoicePaid",
    "Melt",
    "MeltQuote",
    "MintBalance",
    "MintError",
    "MintNotKnown",
    "MintRefused",
    "MintUnreachable",
    "NotEnoughFunds",
    "Operation",
    "OutcomeUnknown",
    "PaymentFailed",
    "Quote",
    "QuoteExpired",
    "QuoteNotPaid",
    "Received",
    "Restored",
    "ScannedKeyset",
    "SeedInUse",
    "StoreUnavailable",
    "TokenPartlyTaken",
    "TokenPending",
    "TokenSpent",
    "TokenUneconomic",
    "Transfer",
    "UnitMismatch",
    "Wallet",
    "WalletBusy",
    "WalletError",
]
