"""E-cash for measurements, made by the hundred at a real mint before anything is measured."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from coincurve import PublicKey

from otrta_core import Dleq, Proof, Token, blind, split_amount, unblind

OUTPUTS_PER_CALL = 500
"""How many signatures are asked for at once."""


@dataclass
class Stock:
    """Makes tokens and swap bodies at one mint, of one unit.

    Attributes:
        mint: its URL.
        unit: of all that is made.
    """

    mint: str
    unit: str = "msat"
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=120))
    _keyset: tuple[str, dict[int, PublicKey]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def tokens(
        self, amount: int, count: int, *, secret: Callable[[], str] | None = None, dleq: bool = False
    ) -> list[Token]:
        """Make tokens of ``amount`` each, their proofs the powers of two that it is the sum of.

        Args:
            amount: in the unit.
            count: how many.
            secret: makes the secret of a proof; random where it is None.
            dleq: whether the proofs carry their DLEQ.
        """
        parts = split_amount(amount)
        made: list[Token] = []
        while missing := count - len(made):
            several = min(missing, max(1, OUTPUTS_PER_CALL // len(parts)))
            proofs = self._mint(parts * several, secret or (lambda: secrets.token_hex(32)), dleq)
            for at in range(0, len(proofs), len(parts)):
                made.append(Token(self.mint, self.unit, tuple(proofs[at : at + len(parts)])))
        return made

    def swap_bodies(self, tokens: Sequence[Token]) -> list[dict[str, Any]]:
        """Prepare, for each token, the swap that takes it: nothing is left to compute when it is posted."""
        return [
            {
                "inputs": [_input(proof) for proof in token.proofs],
                "outputs": [self._output(amount)[0] for amount in split_amount(token.amount)],
            }
            for token in tokens
        ]

    def states(self, ys: Sequence[str]) -> dict[str, str]:
        """Return the states of proofs at the mint, by Y (NUT-07)."""
        found: dict[str, str] = {}
        for at in range(0, len(ys), OUTPUTS_PER_CALL):
            listed = self._post("/v1/checkstate", {"Ys": list(ys[at : at + OUTPUTS_PER_CALL])})["states"]
            found |= {state["Y"]: state["state"] for state in listed}
        return found

    def _mint(self, parts: Sequence[int], secret: Callable[[], str], dleq: bool) -> list[Proof]:
        quote = self._post("/v1/mint/quote/bolt11", {"amount": sum(parts), "unit": self.unit})["quote"]
        self._http.get(f"{self.mint}/v1/mint/quote/bolt11/{quote}").raise_for_status()
        keyset_id, keys = self._keys()
        # a mint that cares for its clients' privacy wants the outputs in order of their amounts
        planned = [(amount, text := secret(), *self._output(amount, text)) for amount in sorted(parts)]
        body = {"quote": quote, "outputs": [output for _, _, output, _ in planned]}
        signatures = self._post("/v1/mint/bolt11", body)["signatures"]
        proofs: dict[int, list[Proof]] = {}
        for (amount, text, _, r), signed in zip(planned, signatures, strict=True):
            c = unblind(PublicKey(bytes.fromhex(signed["C_"])), r, keys[amount]).format().hex()
            proven = Dleq(signed["dleq"]["e"], signed["dleq"]["s"], r.hex()) if dleq else None
            proofs.setdefault(amount, []).append(Proof(amount, keyset_id, text, c, proven))
        return [proofs[amount].pop() for amount in parts]

    def _output(self, amount: int, secret: str | None = None) -> tuple[dict[str, Any], bytes]:
        keyset_id, _ = self._keys()
        r = secrets.token_bytes(32)
        blinded = blind((secret or secrets.token_hex(32)).encode(), r).format().hex()
        return {"amount": amount, "id": keyset_id, "B_": blinded}, r

    def _keys(self) -> tuple[str, dict[int, PublicKey]]:
        if self._keyset is None:
            listed = self._http.get(f"{self.mint}/v1/keysets").raise_for_status().json()["keysets"]
            found = next(k["id"] for k in listed if k["unit"] == self.unit and k["active"])
            asked = self._http.get(f"{self.mint}/v1/keys/{found}").raise_for_status()
            keys = asked.json()["keysets"][0]["keys"]
            self._keyset = found, {int(amount): PublicKey(bytes.fromhex(key)) for amount, key in keys.items()}
        return self._keyset

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        reply = self._http.post(self.mint + path, json=body)
        if reply.status_code != 200:
            raise SystemExit(f"the mint answered {path} with {reply.status_code}: {reply.text[:300]}")
        return reply.json()


def _input(proof: Proof) -> dict[str, Any]:
    return {"amount": proof.amount, "id": proof.id, "secret": proof.secret, "C": proof.C}
