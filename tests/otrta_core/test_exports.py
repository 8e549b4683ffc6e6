import inspect

import otrta_core
from otrta_core import (
    Keyset,
    ModelPrice,
    OtrtaError,
    PaymentRequest,
    PriceTable,
    Proof,
    Settlement,
    Token,
    Unit,
    Usage,
    cost_msat,
    quote_msat,
    settle,
)

CONTRACT = {
    "Keyset",
    "ModelPrice",
    "OtrtaError",
    "PaymentRequest",
    "PriceTable",
    "Proof",
    "Token",
    "Unit",
    "Usage",
    "blind",
    "cost_msat",
    "derive_blinding_factor",
    "derive_secret",
    "hash_to_curve",
    "input_fee",
    "quote_msat",
    "select_proofs",
    "settle",
    "split_amount",
    "unblind",
    "verify_dleq",
}
GROWN = {
    "AmountError",
    "BatchMint",
    "CallRequest",
    "CommonLock",
    "Dleq",
    "DleqInvalid",
    "InvalidRequest",
    "InvoiceError",
    "KeysetError",
    "LockError",
    "MintQuote",
    "MintQuoteError",
    "Nut10Option",
    "P2PK",
    "Pathway",
    "PaymentRequestError",
    "PriceError",
    "RequestNotPriceable",
    "Settlement",
    "SigFlag",
    "Spend",
    "SpendingCondition",
    "TokenError",
    "TokenTooLarge",
    "Transport",
    "UnsupportedParameter",
    "affordable_output_tokens",
    "backup_public_key",
    "blank_outputs",
    "blind_lock",
    "check_unlocked",
    "common_lock",
    "derive_backup_key",
    "derive_keyset_id_v1",
    "derive_keyset_id_v2",
    "derive_lock_key",
    "face_value",
    "format_msat",
    "invoice_amount_msat",
    "invoice_description_hash",
    "lock_satisfies",
    "minimum_msat",
    "normalize_invoice",
    "parse_amount_msat",
    "is_uneconomic",
    "pick_exact",
    "quote_signature_holds",
    "read_condition",
    "read_lock",
    "resolve_keyset_id",
    "ride_along",
    "round_charge_msat",
    "sig_all_message",
    "sign_blinded",
    "sign_inputs",
    "sign_quote",
    "slot_keys",
    "split_for_change",
    "split_transactions",
    "unblind_lock",
    "unlock",
    "verify_proof_dleq",
}


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_public_names_are_these() -> None:
    assert sorted(CONTRACT | GROWN) == sorted(otrta_core.__all__)


def test_every_public_name_is_there() -> None:
    assert [name for name in otrta_core.__all__ if not hasattr(otrta_core, name)] == []


def test_every_error_is_of_one_tree() -> None:
    exported = (getattr(otrta_core, name) for name in otrta_core.__all__)
    errors = [value for value in exported if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(errors) > 5
    assert all(issubclass(error, OtrtaError) for error in errors)


def test_a_token_has_the_parts_of_the_contract() -> None:
    assert names(Token.parse)[0] == "text"
    assert inspect.signature(Token.encode).parameters["version"].default == 4
    assert {"mint", "unit", "proofs", "memo"} <= set(names(Token))
    assert isinstance(Token.amount, property)


def test_a_payment_request_is_parsed_and_encoded_by_its_form() -> None:
    assert names(PaymentRequest.parse) == ["text"]
    assert inspect.signature(PaymentRequest.encode).parameters["form"].default == "creqA"


def test_the_money_functions_take_what_the_contract_says() -> None:
    assert names(cost_msat) == ["price", "usage"]
    assert names(quote_msat)[:2] == ["price", "request"]
    assert names(settle) == ["paid", "fee", "cost"]
    assert {"charged", "change"} <= set(names(Settlement))


def test_values_cannot_be_changed() -> None:
    for kind in (Keyset, ModelPrice, PaymentRequest, Proof, Settlement, Token, Usage):
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
    assert [unit.value for unit in Unit] == ["msat", "sat"]
    assert PriceTable({}).get("any") is None
