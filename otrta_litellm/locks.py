"""Which locks a gateway takes for money, by their text alone (NUT-10, NUT-11).

A token that is locked to the gateway's key is paid before any mint is asked, so nobody but the gateway may be
able to spend it for long enough. Mints read malformed locks in their own ways, and some then ask for no
signature at all: what is not of exactly this form is refused.
"""

import re
from collections.abc import Collection, Iterable
from enum import Enum, auto

from otrta_core import P2PK, LockError, Proof, SigFlag, read_condition

_LOCKTIME = re.compile(r"[1-9][0-9]{9,11}", re.ASCII)
_TAGS = frozenset({"sigflag", "n_sigs", "locktime", "refund", "n_sigs_refund"})


class Locking(Enum):
    """How a set of proofs is locked."""

    NONE = auto()
    ALL = auto()  # which says nothing of the form: a secret that only looks like a condition counts too
    SOME = auto()


def locking(proofs: Iterable[Proof]) -> Locking:
    """Tell whether proofs state conditions."""
    kinds = {_states_condition(proof.secret) for proof in proofs}
    if len(kinds) > 1:
        return Locking.SOME
    return Locking.ALL if True in kinds else Locking.NONE


def locked_to(proof: Proof, keys: Collection[str]) -> P2PK | None:
    """Return the lock of a proof that one of these keys opens alone, or None where it is not of the form.

    The form: a JSON array of exactly ``"P2PK"`` and an object of ``nonce``, ``data`` and at most ``tags``, no
    key twice; ``data`` is one of ``keys``, as it is written; each tag is a list of two or more texts that are
    not empty, named sigflag, n_sigs, locktime, refund or n_sigs_refund, none twice; ``SIG_INPUTS``; one
    signature; a locktime of ten to twelve digits, and refund keys only with one.
    """
    if proof.p2pk_e is not None:  # its keys are not those that stand there (NUT-28)
        return None
    try:
        condition = read_condition(proof.secret)
        if condition is None or condition.data not in keys:
            return None
        lock = P2PK.from_condition(condition)
    except LockError:
        return None
    tags = {name: values for name, *values in condition.tags}
    if not tags.keys() <= _TAGS or lock.sigflag is not SigFlag.SIG_INPUTS or lock.n_sigs != 1:
        return None
    if lock.locktime is None:
        return None if lock.refund else lock
    return lock if _LOCKTIME.fullmatch(tags["locktime"][0]) else None


def holds_until(lock: P2PK, until: float) -> bool:
    """Tell whether nobody else can spend what is locked so before ``until``, in unix seconds."""
    return lock.locktime is None or lock.locktime >= until


def _states_condition(secret: str) -> bool:
    try:
        return read_condition(secret) is not None
    except LockError:
        return True
