"""Proofs, their DLEQ, and the input fee of spending them (NUT-00, NUT-02, NUT-12)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from otrta_core import curve


@dataclass(frozen=True, slots=True)
class Dleq:
    """A DLEQ proof as it travels in a token: e, s and the blinding factor r, in hex (NUT-12)."""

    e: str = field(repr=False)
    s: str = field(repr=False)
    r: str = field(repr=False)


@dataclass(frozen=True)
class Proof:
    """One piece of e-cash (NUT-00). Its repr shows the amount and the keyset, never what spends it.

    Attributes:
        amount: in the unit of its keyset.
        id: the keyset id in hex; in a token it may be short (see ``Token.resolve``).
        secret: the text that was signed.
        C: the mint's signature, a compressed point in hex.
        dleq: the proof that the mint signed with its published key, or None.
        witness: what unlocks the secret, as the text that it travels as, or None (NUT-11, NUT-14).
        p2pk_e: the sender's ephemeral key, a compressed point in hex, where the keys that lock the secret are
            blinded, or None (NUT-28). It is for the receiver only and never goes to a mint.
    """

    amount: int
    id: str
    secret: str = field(repr=False)
    C: str = field(repr=False)
    dleq: Dleq | None = field(default=None, repr=False)
    witness: str | None = field(default=None, repr=False)
    p2pk_e: str | None = field(default=None, repr=False)

    @cached_property
    def Y(self) -> str:  # noqa: N802 (the name of NUT-07)
        """The hex point by which the mint knows this proof (NUT-07)."""
        return curve.y_of(self.secret)

    def dleq_holds(self, key: str) -> bool:
        """Tell whether this proof's DLEQ proves the mint's signature under ``key`` (hex).

        A proof without DLEQ proves nothing: False.
        """
        if self.dleq is None:
            return False
        try:
            e, s, r = (bytes.fromhex(x) for x in (self.dleq.e, self.dleq.s, self.dleq.r))
            return curve.verify_proof_dleq(self.secret, curve.point(self.C), e, s, r, curve.point(key))
        except ValueError:
            return False


def input_fee(proofs: Iterable[Proof], fee_ppk: Mapping[str, int]) -> int:
    """Return the fee of spending ``proofs`` in one transaction, in their own unit (NUT-02).

    Args:
        proofs: the inputs.
        fee_ppk: ``input_fee_ppk`` by full keyset id.

    Raises:
        KeyError: a proof's keyset is not in ``fee_ppk``.
    """
    return fee_of_ppk(sum(fee_ppk[proof.id] for proof in proofs))


def fee_of_ppk(total_ppk: int) -> int:
    """Round the summed ppk of all inputs up to whole units (NUT-02)."""
    return (total_ppk + 999) // 1000
