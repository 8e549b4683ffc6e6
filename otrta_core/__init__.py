"""Everything a buyer and a seller of LLM calls must agree on, without any I/O.

Cashu tokens, payment requests, blind signatures, keysets and fees; msat prices, costs, quotes and
settlements. Nothing here reads a clock, a file, a socket or a source of randomness: what a function
needs comes in as an argument, so the same input gives the same answer everywhere.
"""

from otrta_core.amounts import Unit, format_msat, parse_amount_msat
from otrta_core.blinded_keys import blind_lock, slot_keys, unblind_lock
from otrta_core.conditions import SpendingCondition, read_condition
from otrta_core.curve import (
    blind,
    hash_to_curve,
    sign_blinded,
    unblind,
    verify_dleq,
    verify_proof_dleq,
)
from otrta_core.derivation import (
    backup_public_key,
    derive_backup_key,
    derive_blinding_factor,
    derive_lock_key,
    derive_secret,
)
from otrta_core.errors import (
    AmountError,
    DleqInvalid,
    InvalidRequest,
    InvoiceError,
    KeysetError,
    LockError,
    MintQuoteError,
    OtrtaError,
    PaymentRequestError,
    PriceError,
    RequestNotPriceable,
    TokenError,
    TokenTooLarge,
    UnsupportedParameter,
)
from otrta_core.invoice import invoice_amount_msat, invoice_description_hash, normalize_invoice
from otrta_core.keyset import Keyset, derive_keyset_id_v1, derive_keyset_id_v2, resolve_keyset_id
from otrta_core.mint_quote import BatchMint, MintQuote, quote_signature_holds, sign_quote
from otrta_core.p2pk import P2PK, CommonLock, Pathway, SigFlag, common_lock, lock_satisfies, read_lock
from otrta_core.payment_request import Nut10Option, PaymentRequest, Transport
from otrta_core.pricing import ModelPrice, PriceTable, Usage, cost_msat
from otrta_core.proof import Dleq, Proof, input_fee
from otrta_core.quote import affordable_output_tokens, face_value, minimum_msat, quote_msat
from otrta_core.requests import CallRequest
from otrta_core.selection import (
    blank_outputs,
    is_uneconomic,
    pick_exact,
    ride_along,
    select_proofs,
    split_amount,
    split_for_change,
)
from otrta_core.settlement import Settlement, round_charge_msat, settle
from otrta_core.token import Token
from otrta_core.unlocking import (
    Spend,
    check_unlocked,
    sig_all_message,
    sign_inputs,
    split_transactions,
    unlock,
)

__all__ = [
    "P2PK",
    "AmountError",
    "BatchMint",
    "CallRequest",
    "CommonLock",
    "Dleq",
    "DleqInvalid",
    "InvalidRequest",
    "InvoiceError",
    "Keyset",
    "KeysetError",
    "LockError",
    "MintQuote",
    "MintQuoteError",
    "ModelPrice",
    "Nut10Option",
    "OtrtaError",
    "Pathway",
    "PaymentRequest",
    "PaymentRequestError",
    "PriceError",
    "PriceTable",
    "Proof",
    "RequestNotPriceable",
    "Settlement",
    "SigFlag",
    "Spend",
    "SpendingCondition",
    "Token",
    "TokenError",
    "TokenTooLarge",
    "Transport",
    "Unit",
    "UnsupportedParameter",
    "Usage",
    "affordable_output_tokens",
    "backup_public_key",
    "blank_outputs",
    "blind",
    "blind_lock",
    "check_unlocked",
    "common_lock",
    "cost_msat",
    "derive_backup_key",
    "derive_blinding_factor",
    "derive_keyset_id_v1",
    "derive_keyset_id_v2",
    "derive_lock_key",
    "derive_secret",
    "face_value",
    "format_msat",
    "hash_to_curve",
    "input_fee",
    "invoice_amount_msat",
    "invoice_description_hash",
    "is_uneconomic",
    "lock_satisfies",
    "minimum_msat",
    "normalize_invoice",
    "parse_amount_msat",
    "pick_exact",
    "quote_msat",
    "quote_signature_holds",
    "read_condition",
    "read_lock",
    "resolve_keyset_id",
    "ride_along",
    "round_charge_msat",
    "select_proofs",
    "settle",
    "sig_all_message",
    "sign_blinded",
    "sign_inputs",
    "sign_quote",
    "slot_keys",
    "split_amount",
    "split_for_change",
    "split_transactions",
    "unblind",
    "unblind_lock",
    "unlock",
    "verify_dleq",
    "verify_proof_dleq",
]
