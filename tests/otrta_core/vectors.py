"""The published test vectors of the Cashu specifications, and proofs made for tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

from coincurve import PrivateKey, PublicKey

from otrta_core import Dleq, Proof, blind, hash_to_curve
from otrta_core.curve import ORDER, hash_e

KEYSET = "00ad268c4d1f5826"
POINT = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


def load(nut: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "data" / f"nut{nut}.json").read_text())


def keys_of(keys: dict[str, str]) -> dict[int, str]:
    return {int(amount): key for amount, key in keys.items()}


def plain_proof(amount: int, secret: str = "a secret", keyset_id: str = KEYSET) -> Proof:
    """A proof of the right form whose signature nobody made."""
    return Proof(amount, keyset_id, secret, POINT)


def plain_proofs(amounts: list[int], keyset_id: str = KEYSET) -> list[Proof]:
    return [plain_proof(amount, f"secret {at}", keyset_id) for at, amount in enumerate(amounts)]


def prove(k: bytes, blinded: PublicKey) -> tuple[bytes, bytes]:
    """Make the DLEQ proof (e, s) of a signature with k, as a mint does (NUT-12)."""
    nonce = hashlib.sha256(k + blinded.format()).digest()
    key = PrivateKey(k).public_key
    e = hash_e(PrivateKey(nonce).public_key, blinded.multiply(nonce), key, blinded.multiply(k))
    s = (int.from_bytes(nonce, "big") + int.from_bytes(e, "big") * int.from_bytes(k, "big")) % ORDER
    return e, s.to_bytes(32, "big")


def signed_proof(k: bytes, secret: str, r: bytes, amount: int = 1) -> Proof:
    """A proof that the key k really signed, with its DLEQ."""
    e, s = prove(k, blind(secret.encode(), r))
    signature = hash_to_curve(secret.encode()).multiply(k).format().hex()
    return Proof(amount, KEYSET, secret, signature, Dleq(e.hex(), s.hex(), r.hex()))
