"""Signing inputs that are locked to public keys, and checking such signatures as a mint does (NUT-11).

``SIG_INPUTS`` puts a signature on each input's own secret. ``SIG_ALL`` puts one on all inputs, outputs and
the quote of a melt into the first input, and asks that all inputs state the same condition.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from otrta_core import schnorr, wire
from otrta_core.blinded_keys import slot_keys
from otrta_core.conditions import SpendingCondition, read_condition
from otrta_core.errors import LockError
from otrta_core.p2pk import P2PK, SigFlag
from otrta_core.proof import Proof
from otrta_core.schnorr import x_only

MAX_WITNESS_SIGNATURES = 22
"""The most signatures that are read from one witness."""

_MAX_WITNESS = 16_384


@dataclass(frozen=True, slots=True)
class Spend:
    """What a ``SIG_ALL`` signature covers beside the inputs (NUT-11).

    Attributes:
        outputs: amount and B_ (hex, as posted) of each output, in the order of the request.
        quote_id: the melt quote; empty for a swap.
    """

    outputs: tuple[tuple[int, str], ...] = ()
    quote_id: str = ""


def sig_all_message(inputs: Sequence[Proof], spend: Spend) -> str:
    """Return the text that a ``SIG_ALL`` signature covers: inputs, outputs, melt quote (NUT-11)."""
    ins = "".join(proof.secret + proof.C for proof in inputs)
    outs = "".join(f"{amount}{blinded}" for amount, blinded in spend.outputs)
    return ins + outs + spend.quote_id


def sign_inputs(
    inputs: Sequence[Proof],
    keys: Iterable[bytes],
    at: int,
    spend: Spend,
    *,
    aux: bytes | None = None,
) -> tuple[Proof, ...]:
    """Return the inputs of one transaction with all signatures that these keys can give.

    Valid signatures of others that a witness already holds are kept, so that several owners can sign in turn.
    Nobody is asked whether they suffice; see ``unlock``.

    Args:
        inputs: locked and ordinary proofs in the order of the request. An ordinary one loses its witness,
            which mints refuse on it.
        keys: the owner's private keys, 32 bytes each; those of a blinded lock are derived with the proof's
            ``p2pk_e`` (NUT-28).
        at: Unix seconds by the mint's clock.
        spend: outputs and melt quote; signed only under ``SIG_ALL``.
        aux: as in ``schnorr.sign``.

    Raises:
        LockError: an input's condition is not accepted, or inputs under ``SIG_ALL`` do not all state it.
    """
    return tuple(proof for proof, _ in _signed(inputs, keys, at, spend, aux))


def unlock(
    inputs: Sequence[Proof],
    keys: Iterable[bytes],
    at: int,
    spend: Spend,
    *,
    aux: bytes | None = None,
) -> tuple[Proof, ...]:
    """Return the inputs of one transaction with the witnesses that spend them.

    Arguments as in ``sign_inputs``. What is returned has no ``p2pk_e``, as it goes to the mint.

    Raises:
        LockError: as in ``sign_inputs``, or these keys cannot spend an input at ``at``.
    """
    signed = _signed(inputs, keys, at, spend, aux)
    if not all(complete for _, complete in signed):
        raise LockError("the token is locked to other keys, or to more keys than these, or not free yet")
    # the mint must not learn which locks are blinded (NUT-28)
    return tuple(replace(proof, p2pk_e=None) for proof, _ in signed)


def check_unlocked(inputs: Sequence[Proof], at: int, spend: Spend) -> None:
    """Check the witnesses of one transaction's inputs as a mint does (NUT-11).

    At most ``MAX_WITNESS_SIGNATURES`` signatures are tried on each of an input's keys.

    Args:
        inputs: in the order of the request.
        at: Unix seconds by the mint's clock.
        spend: outputs and melt quote.

    Raises:
        LockError: an input's condition is not accepted or not met, or it has a witness without a condition.
    """
    locks = _locks(inputs)
    sig_all = _sig_all(locks)
    if sig_all is not None:
        if not _met(sig_all, sig_all_message(inputs, spend), inputs[0].witness, at):
            raise LockError("the transaction is not signed by the keys that its inputs are locked to")
        return
    for proof, lock in zip(inputs, locks, strict=True):
        if lock is None and proof.witness is not None:
            raise LockError("an input has a witness but no lock")
        if lock is not None and not _met(lock, proof.secret, proof.witness, at):
            raise LockError("an input is not signed by the keys that it is locked to")


def split_transactions(proofs: Iterable[Proof]) -> list[list[Proof]]:
    """Split proofs into as few groups as may be inputs of one transaction each, in their order.

    ``SIG_ALL`` proofs go with others of exactly their condition only, all the rest together.

    Raises:
        LockError: a proof's condition is not accepted.
    """
    groups: dict[SpendingCondition | None, list[Proof]] = {}
    for proof in proofs:
        condition = read_condition(proof.secret)
        sig_all = condition is not None and P2PK.from_condition(condition).sigflag is SigFlag.SIG_ALL
        groups.setdefault(condition if sig_all else None, []).append(proof)
    return list(groups.values())


def read_signatures(witness: str | None) -> tuple[str, ...]:
    """Read the signatures of a witness, each once, in lower case (NUT-11); none where there is no witness.

    Raises:
        LockError: too long, too many, or not of the form ``{"signatures": [hex, …]}``; other fields do
            not matter.
    """
    if witness is None:
        return ()
    try:
        if len(witness) > _MAX_WITNESS:
            raise ValueError
        signatures = wire.from_json_unique(witness)["signatures"]
        if not isinstance(signatures, list) or len(signatures) > MAX_WITNESS_SIGNATURES:
            raise ValueError
        if not all(isinstance(signature, str) for signature in signatures):
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise LockError("an input's witness is not of the form of NUT-11") from None
    return tuple(dict.fromkeys(signature.lower() for signature in signatures))


def _locks(inputs: Sequence[Proof]) -> list[P2PK | None]:
    conditions = [read_condition(proof.secret) for proof in inputs]
    locks = [None if condition is None else P2PK.from_condition(condition) for condition in conditions]
    # the mint compares data and tags as they are written, so two locks of one meaning may still differ
    if _sig_all(locks) is not None and len(set(conditions)) > 1:
        raise LockError("inputs under SIG_ALL must all be locked in exactly the same way: spend them apart")
    return locks


def _sig_all(locks: Iterable[P2PK | None]) -> P2PK | None:
    return next((lock for lock in locks if lock is not None and lock.sigflag is SigFlag.SIG_ALL), None)


def _signed(
    inputs: Sequence[Proof], keys: Iterable[bytes], at: int, spend: Spend, aux: bytes | None
) -> list[tuple[Proof, bool]]:
    locks, private = _locks(inputs), tuple(keys)
    sig_all = _sig_all(locks)
    if sig_all is None:
        return [
            (replace(proof, witness=None), True)
            if lock is None
            else _Signer.of(private, lock, [proof], at, aux).sign(proof, lock, proof.secret)
            for proof, lock in zip(inputs, locks, strict=True)
        ]
    messages = sig_all_message(inputs, spend), _nutshell_message(inputs, spend)
    signer = _Signer.of(private, sig_all, inputs, at, aux)
    first, complete = signer.sign(inputs[0], sig_all, *messages)
    return [(first, complete), *((replace(proof, witness=None), complete) for proof in inputs[1:])]


def _nutshell_message(inputs: Sequence[Proof], spend: Spend) -> str:
    """Return the text that Nutshell up to 0.20 takes for what ``SIG_ALL`` covers: no C and no amounts."""
    return "".join([*(p.secret for p in inputs), *(blinded for _, blinded in spend.outputs), spend.quote_id])


@dataclass(frozen=True, slots=True)
class _Signer:
    own: Mapping[str, bytes] = field(repr=False)
    at: int
    aux: bytes | None = field(repr=False)

    @classmethod
    def of(
        cls, keys: Iterable[bytes], lock: P2PK, proofs: Iterable[Proof], at: int, aux: bytes | None
    ) -> Self:
        """Take these keys, and those that follow from them for a blinded lock (NUT-28)."""
        own = {x_only(schnorr.public_key(key)): key for key in keys}
        for ephemeral in {proof.p2pk_e for proof in proofs if proof.p2pk_e is not None}:
            derived = [k for key in own.values() for k in slot_keys(lock, ephemeral, key).values()]
            own |= {x_only(schnorr.public_key(key)): key for key in derived}
        return cls(own, at, aux)

    def sign(self, proof: Proof, lock: P2PK, message: str, *more: str) -> tuple[Proof, bool]:
        """Return the proof with signatures on the messages, and whether those on the first suffice."""
        try:
            given = read_signatures(proof.witness)
        except LockError:
            given = ()
        signatures, complete = self._signatures(lock, message, given)
        # a mint counts the signatures that hold and passes over the others
        extra = [s for other in more for s in self._signatures(lock, other, given)[0]]
        if not (signatures or extra or complete):
            return proof, False
        return replace(proof, witness=_witness([*signatures, *extra])), complete

    def _signatures(self, lock: P2PK, message: str, given: Sequence[str]) -> tuple[list[str], bool]:
        partial: dict[str, None] = {}  # of every pathway: whose owners come next is not known here
        for _, keys, needed in lock.signers(self.at):
            own = [self.own[x_only(key)] for key in keys if x_only(key) in self.own]
            found = [schnorr.sign(message, key, self.aux) for key in own[:needed]]
            others = [key for key in keys if x_only(key) not in self.own] if len(found) < needed else []
            for key in others:
                found += [s for s in given if schnorr.verifies(message, s, key)][:1]
            if len(found) >= needed:
                return found[:needed], True
            partial |= dict.fromkeys(found)
        return list(partial), lock.anyone_can_spend(self.at)


def _met(lock: P2PK, message: str, witness: str | None, at: int) -> bool:
    if lock.anyone_can_spend(at):
        return True
    signatures = read_signatures(witness)
    return any(
        sum(any(schnorr.verifies(message, s, key) for s in signatures) for key in keys) >= needed
        for _, keys, needed in lock.signers(at)
    )


def _witness(signatures: Sequence[str]) -> str:
    return wire.compact_json({"signatures": list(signatures)})
