"""E-cash for tests, made at a real mint with nothing but the core: no wallet vouches for itself."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from coincurve import PublicKey

from otrta_core import Dleq, Proof, Token, blind, split_amount, unblind


@dataclass
class Purse:
    """Makes tokens at a mint and asks it about them.

    Attributes:
        mint: where it is asked.
        named: the URL that its tokens name; the mint's own where it is empty.
        handled: every token and secret that went through this purse.
    """

    mint: str
    named: str = ""
    handled: list[str] = field(default_factory=list)
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))
    _keys: dict[str, tuple[str, dict[int, str]]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        """The URL that its tokens name."""
        return self.named or self.mint

    def token(
        self,
        amount: int,
        unit: str = "msat",
        *,
        parts: Sequence[int] | None = None,
        memo: str | None = None,
        dleq: bool = False,
        secret: Callable[[], str] = lambda: secrets.token_hex(32),
    ) -> Token:
        """A fresh token; `parts` are the amounts of its proofs, and `secret` makes the secret of each."""
        quote = self._post("/v1/mint/quote/bolt11", {"amount": amount, "unit": unit})["quote"]
        self._http.get(f"{self.mint}/v1/mint/quote/bolt11/{quote}").raise_for_status()
        proofs = self._signed(
            "/v1/mint/bolt11", {"quote": quote}, parts or split_amount(amount), unit, secret
        )
        if not dleq:
            proofs = [Proof(p.amount, p.id, p.secret, p.C) for p in proofs]
        return self.note(Token(self.url, unit, tuple(proofs), memo))

    def spend(self, token: Token, fee: int = 0) -> Token:
        """Take a token as its receiver would: swap it for another."""
        inputs = [
            {"amount": p.amount, "id": p.id, "secret": p.secret, "C": p.C}
            | ({"witness": p.witness} if p.witness else {})
            for p in token.proofs
        ]
        parts = split_amount(token.amount - fee)
        proofs = self._signed("/v1/swap", {"inputs": inputs}, parts, token.unit)
        return self.note(Token(self.url, token.unit, tuple(proofs)))

    def states(self, token: Token) -> set[str]:
        """The states of a token's proofs at the mint (NUT-07)."""
        return set(self.states_of([proof.Y for proof in token.proofs]))

    def states_of(self, ys: Iterable[str]) -> list[str]:
        """The states of proofs by Y."""
        return [s["state"] for s in self._post("/v1/checkstate", {"Ys": list(ys)})["states"]]

    def note(self, token: Token) -> Token:
        """Remember what must never be seen elsewhere."""
        self.handled += [token.encode(4), token.encode(3), *(proof.secret for proof in token.proofs)]
        return token

    def keyset(self, unit: str) -> tuple[str, dict[int, str]]:
        """Id and keys of the active keyset of a unit."""
        if unit not in self._keys:
            listed = self._get("/v1/keysets")["keysets"]
            found = next(k["id"] for k in listed if k["unit"] == unit and k["active"])
            keys = self._get(f"/v1/keys/{found}")["keysets"][0]["keys"]
            self._keys[unit] = found, {int(amount): key for amount, key in keys.items()}
        return self._keys[unit]

    def _signed(
        self,
        path: str,
        body: dict[str, Any],
        parts: Sequence[int],
        unit: str,
        secret: Callable[[], str] = lambda: secrets.token_hex(32),
    ) -> list[Proof]:
        keyset_id, keys = self.keyset(unit)
        made = [(amount, secret(), secrets.token_bytes(32)) for amount in sorted(parts)]
        outputs = [
            {"amount": amount, "id": keyset_id, "B_": blind(text.encode(), r).format().hex()}
            for amount, text, r in made
        ]
        proofs = []
        for (amount, text, r), signed in zip(
            made, self._post(path, {**body, "outputs": outputs})["signatures"], strict=True
        ):
            key = PublicKey(bytes.fromhex(keys[amount]))
            c = unblind(PublicKey(bytes.fromhex(signed["C_"])), r, key).format().hex()
            given = signed.get("dleq")
            dleq = Dleq(given["e"], given["s"], r.hex()) if given else None
            proofs.append(Proof(amount, keyset_id, text, c, dleq))
        return proofs

    def _get(self, path: str) -> Any:
        return self._http.get(self.mint + path).raise_for_status().json()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        reply = self._http.post(self.mint + path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()
