"""Outputs: made from the seed, and turned into proofs by the mint's signatures (NUT-00, NUT-12, NUT-13)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from otrta_core import Dleq, Keyset, Proof, curve, derive_blinding_factor, derive_secret
from otrta_wallet.errors import OutcomeUnknown
from otrta_wallet.mint_client import BlindSignature
from otrta_wallet.records import Output


@dataclass(frozen=True, slots=True)
class GivenSecret:
    """An output wanted with a secret and a blinding factor (hex) that no seed gives, as locks need."""

    amount: int
    holder: str | None
    secret: str = field(repr=False)
    r: str = field(repr=False)


def make_outputs(
    seed: bytes, keyset_id: str, first_counter: int, amounts: Sequence[tuple[int, str | None]]
) -> list[Output]:
    """Blind one output per (amount, holder), with consecutive counters from ``first_counter``."""
    planned = []
    for position, (amount, holder) in enumerate(amounts):
        counter = first_counter + position
        secret = derive_secret(seed, keyset_id, counter)
        blinded = curve.blind(secret.encode(), derive_blinding_factor(seed, keyset_id, counter))
        planned.append(Output(position, keyset_id, counter, amount, blinded.format().hex(), holder))
    return planned


def outputs_with(keyset_id: str, given: Iterable[GivenSecret]) -> list[Output]:
    """Blind one output per given secret."""
    planned = []
    for position, want in enumerate(given):
        blinded = curve.blind(want.secret.encode(), bytes.fromhex(want.r)).format().hex()
        planned.append(
            Output(position, keyset_id, None, want.amount, blinded, want.holder, want.secret, want.r)
        )
    return planned


def given_secrets(planned: Iterable[Output]) -> list[GivenSecret]:
    """Return what planned outputs were given, those that have a secret of their own."""
    return [GivenSecret(o.amount, o.holder, o.secret, o.r) for o in planned if o.secret and o.r]


def in_order(planned: Iterable[Output]) -> list[Output]:
    """Put outputs in an order that tells nothing of what they are for (NUT-03)."""
    ordered = sorted(planned, key=lambda output: (output.amount, output.blinded))
    return [replace(output, position=position) for position, output in enumerate(ordered)]


def make_proofs(
    seed: bytes,
    keysets: Mapping[str, Keyset],
    outputs: Sequence[Output],
    signatures: Sequence[BlindSignature],
) -> list[Proof]:
    """Unblind the mint's signatures, after checking each against its output.

    Raises:
        OutcomeUnknown: the signatures are not those of these outputs, or a DLEQ does not hold. The
            outputs stay in the journal, since the mint may still give the right ones.
    """
    if len(signatures) != len(outputs):
        raise OutcomeUnknown("the mint signed another number of outputs than it was asked to")
    return [_proof(seed, keysets[o.keyset_id], o, s) for o, s in zip(outputs, signatures, strict=True)]


def make_change(
    seed: bytes,
    keysets: Mapping[str, Keyset],
    signed: Sequence[tuple[Output, BlindSignature]],
    *,
    at_most: int,
) -> tuple[list[Output], list[Proof]]:
    """Unblind change, whose amounts are the mint's to choose (NUT-08).

    Args:
        seed: of the wallet.
        keysets: of the mint.
        signed: blanks, each with its signature.
        at_most: what all of them may be worth.

    Returns:
        The outputs with their amounts, and the proofs.

    Raises:
        OutcomeUnknown: as ``make_proofs``; or they are worth more than was there to come back.
    """
    outputs = [replace(blank, amount=signature.amount) for blank, signature in signed]
    if sum(output.amount for output in outputs) > at_most:
        raise OutcomeUnknown("the mint's change is more than what was given")
    return outputs, make_proofs(seed, keysets, outputs, [signature for _, signature in signed])


def _proof(seed: bytes, keyset: Keyset, output: Output, signature: BlindSignature) -> Proof:
    if (signature.id, signature.amount) != (output.keyset_id, output.amount):
        raise OutcomeUnknown("the mint signed another amount or keyset than it was asked to")
    secret, r = _secret_and_r(seed, output)
    try:
        key = curve.point(keyset.keys[output.amount])
        blind_signature = curve.point(signature.C_)
        if signature.dleq is not None:
            e, s = bytes.fromhex(signature.dleq.e), bytes.fromhex(signature.dleq.s)
            if not curve.verify_dleq(curve.point(output.blinded), blind_signature, e, s, key):
                raise OutcomeUnknown("a signature of the mint does not verify (NUT-12)")
        c = curve.unblind(blind_signature, r, key).format().hex()
    except (ValueError, KeyError):
        raise OutcomeUnknown("a signature of the mint is malformed") from None
    given = signature.dleq
    dleq = None if given is None else Dleq(given.e, given.s, r.hex())
    return Proof(output.amount, output.keyset_id, secret, c, dleq)


def _secret_and_r(seed: bytes, output: Output) -> tuple[str, bytes]:
    if output.secret is not None and output.r is not None:
        return output.secret, bytes.fromhex(output.r)
    if output.counter is None:
        raise ValueError("an output has neither a counter nor a secret")
    secret = derive_secret(seed, output.keyset_id, output.counter)
    return secret, derive_blinding_factor(seed, output.keyset_id, output.counter)
