"""Keys, locked proofs and wire forms for the tests of spending conditions."""

import json
from typing import Any

from coincurve import PrivateKey

from otrta_core import P2PK, Proof, Spend
from otrta_core.curve import ORDER

NONCE = "859d4935c4907062a6297cf4e663e2835d90d97ecdd510745d32f6816323a41f"
SIGNATURE = "02698c4e2b5f9534cd0687d87513c759790cf829aa5739184a3e3735471fbda904"
KEYS = [number.to_bytes(32, "big") for number in range(1, 15)]
NOW = 1_700_000_000


def public(key: bytes) -> str:
    return bytes(PrivateKey(key).public_key.format()).hex()


PUBLIC = [public(key) for key in KEYS]


def other_parity(key: str) -> str:
    return {"02": "03", "03": "02"}[key[:2]] + key[2:]


def negated(key: bytes) -> bytes:
    return (ORDER - int.from_bytes(key, "big")).to_bytes(32, "big")


def locked(lock: P2PK, nonce: str = NONCE, witness: str | None = None) -> Proof:
    return Proof(1, "009a1f293253e41e", lock.secret(nonce), SIGNATURE, witness=witness)


def ordinary(secret: str = "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e9") -> Proof:
    return Proof(1, "009a1f293253e41e", secret, SIGNATURE)


def written(*tags: list[Any], data: str = PUBLIC[0], **more: object) -> str:
    """A secret as somebody else may have written it."""
    return json.dumps(["P2PK", {"nonce": NONCE, "data": data, "tags": list(tags), **more}])


def proof_of(fields: dict[str, Any]) -> Proof:
    return Proof(fields["amount"], fields["id"], fields["secret"], fields["C"], witness=fields.get("witness"))


def transaction(request: dict[str, Any]) -> tuple[list[Proof], Spend]:
    outputs = tuple((output["amount"], output["B_"]) for output in request["outputs"])
    return [proof_of(fields) for fields in request["inputs"]], Spend(outputs, request.get("quote", ""))
