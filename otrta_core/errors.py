"""The errors of the core.

::

    OtrtaError
     ├── TokenError                 token_malformed, 400
     │    └── TokenTooLarge         token_too_large, 400
     ├── PaymentRequestError        payment_request_malformed, 400
     ├── InvoiceError               invoice_malformed, 400
     ├── KeysetError                keyset_unknown, 400
     ├── LockError                  lock_not_accepted, 400
     ├── MintQuoteError             mint_quote_invalid, 400
     ├── DleqInvalid                dleq_invalid, 400
     ├── AmountError                amount_invalid, 400
     ├── PriceError                 price_invalid, 400
     └── InvalidRequest             invalid_request, 400
          ├── UnsupportedParameter  unsupported_parameter, 400
          └── RequestNotPriceable   request_not_priceable, 400

Each names the machine code and the HTTP status that it maps to. No message holds a secret: what a
token contains is never quoted back.
"""

from typing import ClassVar


class OtrtaError(Exception):
    """Base of every error that this project raises on purpose; never raised itself."""

    code: ClassVar[str] = "otrta_error"
    http_status: ClassVar[int] = 400

    def __init__(self, message: str) -> None:
        if type(self) is OtrtaError:
            raise TypeError("OtrtaError is a base class: raise one of its subclasses")
        super().__init__(message)
        self.message = message


class TokenError(OtrtaError):
    """The text is not a Cashu token that this version can read."""

    code = "token_malformed"


class TokenTooLarge(TokenError):
    """The token has more bytes or more proofs than the reader allows."""

    code = "token_too_large"


class PaymentRequestError(OtrtaError):
    """The text is not a payment request (NUT-18) that this version can read."""

    code = "payment_request_malformed"


class InvoiceError(OtrtaError):
    """The text is not a Lightning invoice (BOLT 11), or one that cannot be paid from here."""

    code = "invoice_malformed"


class KeysetError(OtrtaError):
    """A keyset is unknown, ambiguous, malformed, or its id does not belong to its keys."""

    code = "keyset_unknown"


class LockError(OtrtaError):
    """A spending condition (NUT-10, NUT-11) is not of the accepted form, or these keys do not meet it now."""

    code = "lock_not_accepted"


class MintQuoteError(OtrtaError):
    """Mint quotes cannot be minted together, or are not signed as they must be (NUT-20, NUT-29)."""

    code = "mint_quote_invalid"


class DleqInvalid(OtrtaError):
    """A DLEQ proof (NUT-12) does not hold: the mint did not sign this with the key it published."""

    code = "dleq_invalid"


class AmountError(OtrtaError):
    """An amount is negative, too large, or not written in a known unit."""

    code = "amount_invalid"


class PriceError(OtrtaError):
    """A price or a usage figure is negative, too large or not a whole number."""

    code = "price_invalid"


class InvalidRequest(OtrtaError):
    """The body of an LLM call has a wrong shape, type or sign."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedParameter(InvalidRequest):
    """The body has a field whose price cannot be bounded."""

    code = "unsupported_parameter"


class RequestNotPriceable(InvalidRequest):
    """The request holds something that has no upper price bound under this price."""

    code = "request_not_priceable"
