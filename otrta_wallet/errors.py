"""The errors of the wallet.

::

    OtrtaError
     └── WalletError
          ├── MintError
          │    ├── MintUnreachable   mint_unreachable, 503: nothing was sent
          │    ├── OutcomeUnknown    outcome_unknown, 503: journalled; recovery decides by the mint's state
          │    │    └── MintBusy     mint_busy, 503: the mint said that it is asked too much
          │    └── MintRefused       token_invalid, 400: the mint answered no, and nothing changed hands
          │         └── PaymentFailed  payment_failed, 400: the invoice was not paid, its money is back
          ├── MintNotKnown           mint_not_accepted, 400
          ├── UnitMismatch           unit_not_accepted, 400
          ├── TokenSpent             token_already_spent, 400
          ├── TokenPending           token_pending, 409
          ├── TokenUneconomic        token_uneconomic, 400
          ├── TokenPartlyTaken       token_partly_taken, 409: one of very many proofs, by several swaps
          ├── NotEnoughFunds         wallet_empty, 402
          ├── QuoteNotPaid           quote_not_paid, 402
          ├── QuoteExpired           quote_expired, 400
          ├── InvoicePaid            invoice_paid, 409
          ├── WalletBusy             wallet_busy, 409
          ├── StoreUnavailable       store_unavailable, 503: the database; what was begun is journalled
          └── SeedInUse              seed_in_use, 409
"""

from otrta_core import OtrtaError


class WalletError(OtrtaError):
    """Base of the wallet's errors."""

    code = "wallet_error"


class MintError(WalletError):
    """The mint could not be used."""

    code = "mint_error"
    http_status = 503


class MintUnreachable(MintError):
    """No byte of the request reached the mint; what was to be spent is untouched."""

    code = "mint_unreachable"


class OutcomeUnknown(MintError):
    """The request may or may not have been carried out; the journal holds it and recovery finishes it.

    Attributes:
        operation_id: of the journalled operation, or None for a call that moves no money.
    """

    code = "outcome_unknown"

    def __init__(self, message: str, operation_id: str | None = None) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class MintBusy(OutcomeUnknown):
    """The mint said that it is asked too much (HTTP 429); whether it acted is not known."""

    code = "mint_busy"


class MintRefused(MintError):
    """The mint answered with an error (NUT-00).

    Attributes:
        status: HTTP status.
        mint_code: the error code of the specs, or None.
    """

    code = "token_invalid"
    http_status = 400

    def __init__(self, message: str, status: int, mint_code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.mint_code = mint_code


class PaymentFailed(MintRefused):
    """The mint could not pay an invoice; what was set aside for it can be spent again."""

    code = "payment_failed"


class MintNotKnown(WalletError):
    """The token is of a mint that this wallet does not use."""

    code = "mint_not_accepted"


class UnitMismatch(WalletError):
    """The token's unit is not the one that its keysets have, or not one that this wallet counts."""

    code = "unit_not_accepted"


class TokenSpent(WalletError):
    """A proof of the token has been spent already."""

    code = "token_already_spent"


class TokenPending(WalletError):
    """A proof of the token is being spent right now."""

    code = "token_pending"
    http_status = 409


class TokenUneconomic(WalletError):
    """Redeeming the token would cost as much in input fees as it is worth."""

    code = "token_uneconomic"


class TokenPartlyTaken(WalletError):
    """A token of more proofs than one swap may have was taken in part; its rest was not, or not yet.

    Attributes:
        amount: what is in the wallet of it, in the token's unit.
        fee: what that has cost.
        reason: why the rest is not.
    """

    code = "token_partly_taken"
    http_status = 409

    def __init__(self, message: str, amount: int, fee: int, reason: OtrtaError) -> None:
        super().__init__(message)
        self.amount = amount
        self.fee = fee
        self.reason = reason


class NotEnoughFunds(WalletError):
    """The wallet has too little that it can spend at this mint and in this unit."""

    code = "wallet_empty"
    http_status = 402


class QuoteNotPaid(WalletError):
    """The invoice of a mint quote has not been paid yet."""

    code = "quote_not_paid"
    http_status = 402


class QuoteExpired(WalletError):
    """The mint's offer to pay an invoice has run out."""

    code = "quote_expired"


class InvoicePaid(WalletError):
    """The invoice is paid already, or being paid."""

    code = "invoice_paid"
    http_status = 409


class WalletBusy(WalletError):
    """Another process has this wallet open."""

    code = "wallet_busy"
    http_status = 409


class StoreUnavailable(WalletError):
    """The database could not be used, or was lost while it was; what was journalled is ended by recovery."""

    code = "store_unavailable"
    http_status = 503


class SeedInUse(WalletError):
    """The wallet has a seed of its own, and what it has or had hangs on it."""

    code = "seed_in_use"
    http_status = 409
