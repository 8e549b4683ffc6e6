"""Locked proofs are issued by the real mint, and it spends or refuses them as our own check says."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from coincurve import PrivateKey

from otrta_cli.processes import Running
from otrta_core import (
    P2PK,
    LockError,
    Proof,
    SigFlag,
    Spend,
    blank_outputs,
    blind,
    blind_lock,
    check_unlocked,
    sign_quote,
    unblind,
    unlock,
)
from otrta_core.curve import point

pytestmark = pytest.mark.integration

MINE, YOURS, THEIRS = (number.to_bytes(32, "big") for number in (11, 12, 13))
PASSED, FAR = 1, 4_000_000_000


def public(key: bytes) -> str:
    return bytes(PrivateKey(key).public_key.format()).hex()


ME, YOU, THEM = public(MINE), public(YOURS), public(THEIRS)

ONE = P2PK(ME)
BOTH = P2PK(ME, (YOU, THEM), 2)
REFUND = P2PK(ME, locktime=PASSED, refund=(YOU, THEM), n_sigs_refund=2)
CASES: dict[str, tuple[P2PK, list[bytes]]] = {
    "its owner": (ONE, [MINE]),
    "the other parity": (P2PK({"02": "03", "03": "02"}[ME[:2]] + ME[2:]), [MINE]),
    "two of three": (BOTH, [YOURS, THEIRS]),
    "the refund keys": (REFUND, [YOURS, THEIRS]),
    "its owner after the locktime": (REFUND, [MINE]),
    "its owner before the locktime": (replace(REFUND, locktime=FAR), [MINE]),
    "anybody after the locktime": (P2PK(ME, locktime=PASSED), []),
}


@dataclass
class AtTheMint:
    """What a test asks of the mint."""

    http: httpx.Client
    keyset: str
    keys: dict[int, str]

    def output(self, secret: str, amount: int = 8) -> tuple[bytes, dict[str, Any]]:
        r = secrets.token_bytes(32)
        return r, {"amount": amount, "id": self.keyset, "B_": bytes(blind(secret.encode(), r).format()).hex()}

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self.http.post(path, json=body)

    def proof(self, secret: str, r: bytes, signature: dict[str, Any]) -> Proof:
        key = self.keys[signature["amount"]]
        c = bytes(unblind(point(signature["C_"]), r, point(key)).format()).hex()
        return Proof(signature["amount"], self.keyset, secret, c)

    def quote(self, amount: int, pubkey: str | None = None) -> str:
        body = {"amount": amount, "unit": "msat"} | ({} if pubkey is None else {"pubkey": pubkey})
        quote = self.post("/v1/mint/quote/bolt11", body).raise_for_status().json()["quote"]
        assert self.http.get(f"/v1/mint/quote/bolt11/{quote}").json()["state"] == "PAID"
        return str(quote)

    def melt_quote(self, stranger: Running) -> dict[str, Any]:
        """Ask for a melt of 1000 msat to an invoice of another mint."""
        request = {"amount": 1000, "unit": "msat"}
        reply = httpx.post(f"{stranger.url}/v1/mint/quote/bolt11", json=request, trust_env=False)
        body = {"request": reply.raise_for_status().json()["request"], "unit": "msat"}
        return dict(self.post("/v1/melt/quote/bolt11", body).raise_for_status().json())

    def issue(self, *given: str, amount: int = 8) -> list[Proof]:
        """Mint one proof for each secret."""
        outputs = [self.output(secret, amount) for secret in given]
        body = {"quote": self.quote(amount * len(given)), "outputs": [output for _, output in outputs]}
        signatures = self.post("/v1/mint/bolt11", body).raise_for_status().json()["signatures"]
        return [self.proof(*made) for made in zip(given, (r for r, _ in outputs), signatures, strict=True)]

    def outputs_for(self, inputs: list[Proof]) -> tuple[list[dict[str, Any]], Spend]:
        """Outputs for a swap of all inputs."""
        outputs = [self.output(secrets.token_hex(32), proof.amount)[1] for proof in inputs]
        return outputs, Spend(tuple((output["amount"], output["B_"]) for output in outputs))

    def swap(self, inputs: tuple[Proof, ...] | list[Proof], outputs: list[dict[str, Any]]) -> bool:
        """Whether the mint makes this swap."""
        return self.post("/v1/swap", {"inputs": wire(inputs), "outputs": outputs}).status_code == 200


def wire(inputs: tuple[Proof, ...] | list[Proof]) -> list[dict[str, Any]]:
    fields = [
        {"amount": p.amount, "id": p.id, "secret": p.secret, "C": p.C, "witness": p.witness} for p in inputs
    ]
    return [{name: value for name, value in one.items() if value is not None} for one in fields]


@pytest.fixture(scope="module")
def at_the_mint(mint: Running) -> Iterator[AtTheMint]:
    with httpx.Client(base_url=mint.url, trust_env=False, timeout=30) as http:
        sets = http.get("/v1/keysets").json()["keysets"]
        keyset = next(s["id"] for s in sets if s["unit"] == "msat" and s["active"])
        keys = http.get(f"/v1/keys/{keyset}").json()["keysets"][0]["keys"]
        yield AtTheMint(http, keyset, {int(amount): key for amount, key in keys.items()})


def now() -> int:
    return int(time.time())


def nonces(lock: P2PK, count: int = 2) -> list[str]:
    return [lock.secret(secrets.token_hex(32)) for _ in range(count)]


@pytest.mark.parametrize("sigflag", SigFlag)
@pytest.mark.parametrize("name", CASES)
def test_a_lock_is_opened_by(at_the_mint: AtTheMint, name: str, sigflag: SigFlag) -> None:
    lock, keys = CASES[name]
    inputs = at_the_mint.issue(*nonces(replace(lock, sigflag=sigflag)))
    outputs, spend = at_the_mint.outputs_for(inputs)
    assert at_the_mint.swap(unlock(inputs, keys, now(), spend), outputs)


REFUSED: dict[str, tuple[P2PK, list[bytes]]] = {
    "another key": (ONE, [YOURS]),
    "one of two": (BOTH, [YOURS]),
    "a refund key before the locktime": (replace(REFUND, locktime=FAR), [YOURS, THEIRS]),
    "a key of each pathway": (replace(REFUND, pubkeys=(THEM,), n_sigs=2), [MINE, YOURS]),
    "nobody before the locktime": (P2PK(ME, locktime=FAR), []),
}


@pytest.mark.parametrize("sigflag", SigFlag)
@pytest.mark.parametrize("name", REFUSED)
def test_a_lock_is_not_opened_by(at_the_mint: AtTheMint, name: str, sigflag: SigFlag) -> None:
    lock, keys = REFUSED[name]
    inputs = at_the_mint.issue(*nonces(replace(lock, sigflag=sigflag)))
    outputs, spend = at_the_mint.outputs_for(inputs)
    with pytest.raises(LockError):
        unlock(inputs, keys, now(), spend)
    own = P2PK(public(keys[0] if keys else YOURS), sigflag=sigflag)
    secret = own.secret(secrets.token_hex(32))
    signed = unlock([replace(proof, secret=secret) for proof in inputs], [*keys, YOURS], now(), spend)
    forged = [replace(proof, witness=other.witness) for proof, other in zip(inputs, signed, strict=True)]
    with pytest.raises(LockError):
        check_unlocked(forged, now(), spend)
    assert not at_the_mint.swap(forged, outputs)
    assert not at_the_mint.swap(inputs, outputs)


def test_other_outputs_than_the_signed_ones_are_refused(at_the_mint: AtTheMint) -> None:
    inputs = at_the_mint.issue(*nonces(replace(ONE, sigflag=SigFlag.SIG_ALL)))
    outputs, spend = at_the_mint.outputs_for(inputs)
    other, _ = at_the_mint.outputs_for(inputs)
    signed = unlock(inputs, [MINE], now(), spend)
    assert not at_the_mint.swap(signed, other)
    assert at_the_mint.swap(signed, outputs)


@pytest.mark.parametrize("sigflag", SigFlag)
def test_a_blinded_lock_is_opened_by_its_owner(at_the_mint: AtTheMint, sigflag: SigFlag) -> None:
    blinded, ephemeral = blind_lock(P2PK(ME, (YOU,), 2, sigflag=sigflag), secrets.token_bytes(32))
    inputs = [replace(proof, p2pk_e=ephemeral) for proof in at_the_mint.issue(*nonces(blinded))]
    outputs, spend = at_the_mint.outputs_for(inputs)
    with pytest.raises(LockError):
        unlock(inputs, [MINE], now(), spend)
    assert at_the_mint.swap(unlock(inputs, [MINE, YOURS], now(), spend), outputs)


@pytest.mark.parametrize("sigflag", SigFlag)
def test_locked_proofs_are_melted_and_all_change_comes_back(
    at_the_mint: AtTheMint, fee_mint: Running, sigflag: SigFlag
) -> None:
    lock = replace(ONE, sigflag=sigflag)
    melt = at_the_mint.melt_quote(fee_mint)
    inputs = at_the_mint.issue(*nonces(lock, 4), amount=1024)
    most = 4 * 1024 - melt["amount"]
    blanks = [at_the_mint.output(secrets.token_hex(32), 1)[1] for _ in range(blank_outputs(most))]
    spend = Spend(tuple((1, blank["B_"]) for blank in blanks), melt["quote"])
    body = {"quote": melt["quote"], "inputs": wire(unlock(inputs, [MINE], now(), spend)), "outputs": blanks}
    paid = at_the_mint.post("/v1/melt/bolt11", body).raise_for_status().json()
    assert paid["state"] == "PAID"
    assert 0 <= most - sum(signature["amount"] for signature in paid["change"]) <= melt["fee_reserve"]


@pytest.mark.parametrize("sigflag", SigFlag)
def test_what_anybody_can_melt_beside_a_proof_of_his_own_is_nobodys_alone(
    at_the_mint: AtTheMint, fee_mint: Running, sigflag: SigFlag
) -> None:
    lock = replace(ONE, sigflag=sigflag)
    inputs = at_the_mint.issue(lock.secret(secrets.token_hex(32)), secrets.token_hex(32), amount=2048)
    with pytest.raises(LockError):
        check_unlocked(inputs, now(), Spend())
    melt = at_the_mint.melt_quote(fee_mint)
    unsigned = {"quote": melt["quote"], "inputs": wire(inputs)}
    melted = at_the_mint.post("/v1/melt/bolt11", unsigned).status_code == 200
    assert melted is not lock.exclusive_to({ME}, now())


def test_a_quote_with_a_key_is_minted_by_the_owner_of_the_key_only(at_the_mint: AtTheMint) -> None:
    quote = at_the_mint.quote(8, ME)
    secret = secrets.token_hex(32)
    r, output = at_the_mint.output(secret)
    body = {"quote": quote, "outputs": [output]}
    assert at_the_mint.post("/v1/mint/bolt11", body).status_code == 400
    wrong = {**body, "signature": sign_quote(quote, [output["B_"]], YOURS)}
    assert at_the_mint.post("/v1/mint/bolt11", wrong).status_code == 400
    right = {**body, "signature": sign_quote(quote, [output["B_"]], MINE)}
    reply = at_the_mint.post("/v1/mint/bolt11", right).raise_for_status().json()
    proof = at_the_mint.proof(secret, r, reply["signatures"][0])
    assert at_the_mint.swap([proof], at_the_mint.outputs_for([proof])[0])


TRAPS = {
    "no nonce": json.dumps(["P2PK", {"data": ME, "tags": [["more", "%s"]]}]),
    "an integer in a tag": json.dumps(["P2PK", {"nonce": "%s", "data": ME, "tags": [["locktime", FAR]]}]),
    "a three-element array": json.dumps(["P2PK", {"nonce": "%s", "data": ME, "tags": []}, {}]),
    "a second locktime tag": json.dumps(
        ["P2PK", {"nonce": "%s", "data": ME, "tags": [["locktime", "1"], ["locktime", str(FAR)]]}]
    ),
    "locktime -1": json.dumps(["P2PK", {"nonce": "%s", "data": ME, "tags": [["locktime", "-1"]]}]),
    "locktime 1_000": json.dumps(["P2PK", {"nonce": "%s", "data": ME, "tags": [["locktime", "1_000"]]}]),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_this_mint_lets_anybody_spend_is_no_lock_to_us(at_the_mint: AtTheMint, name: str) -> None:
    inputs = at_the_mint.issue(TRAPS[name] % secrets.token_hex(32))
    outputs, spend = at_the_mint.outputs_for(inputs)
    with pytest.raises(LockError):
        unlock(inputs, [MINE], now(), spend)
    bare = [replace(proof, witness=witness) for proof in inputs for witness in (None, '{"signatures":[]}')]
    assert any(at_the_mint.swap([proof], outputs) for proof in bare)
