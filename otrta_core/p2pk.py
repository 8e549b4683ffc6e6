"""Locks to public keys: what a P2PK secret says, and who can spend it when (NUT-11).

Two pathways, each with its own keys and its own number of signatures: the locktime pathway (``data`` and
``pubkeys``) is always open; the refund pathway opens when the locktime has passed. A passed locktime without
refund keys leaves the proof to anybody.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from otrta_core import curve
from otrta_core.conditions import SpendingCondition, read_condition, write_condition
from otrta_core.errors import LockError
from otrta_core.payment_request import Nut10Option
from otrta_core.proof import Proof
from otrta_core.schnorr import x_only

KIND = "P2PK"
MAX_KEYS = 11
"""Keys of both pathways together (the slots of NUT-28)."""
MAX_SIGNATURES = 7
"""Signatures that fit the 1024 characters of witness that Nutshell takes by default."""
MAX_SIGNATURES_ALL = 3
"""The same under ``SIG_ALL``, where each key signs in two forms (see ``unlocking``)."""
MAX_LOCKTIME = 2**53 - 1
"""The latest locktime, in Unix seconds, that every mint's language reads as the same number."""

_NUMBER = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_KEY = re.compile(r"0[23][0-9a-f]{64}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32,128}", re.ASCII)
_LISTS = frozenset({"pubkeys", "refund"})
_SINGLE = frozenset({"sigflag", "n_sigs", "locktime", "n_sigs_refund"})


class SigFlag(StrEnum):
    """What a signature covers (NUT-11)."""

    SIG_INPUTS = "SIG_INPUTS"
    SIG_ALL = "SIG_ALL"


class Pathway(StrEnum):
    """By which rule a locked proof can be spent (NUT-11)."""

    LOCKTIME = "locktime"
    REFUND = "refund"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class P2PK:
    """A lock to public keys (NUT-11). Two locks are equal where they mean the same, however written.

    Attributes:
        data: the first key: 33 bytes, compressed, in hex; kept in lower case.
        pubkeys: more keys of the locktime pathway.
        n_sigs: how many of ``data`` and ``pubkeys`` must sign.
        locktime: Unix seconds after which the refund pathway opens; None locks for ever.
        refund: keys of the refund pathway; none leaves the proof to anybody after the locktime.
        n_sigs_refund: how many of ``refund`` must sign.
        sigflag: whether a signature covers its own input or the whole transaction; see ``exclusive_to``.

    Raises:
        LockError: a key is malformed or stands twice in a pathway, the flag is not known, or a number is
            not whole (a mint would never open what ``time.time()`` writes) or out of range.
    """

    data: str
    pubkeys: tuple[str, ...] = ()
    n_sigs: int = 1
    locktime: int | None = None
    refund: tuple[str, ...] = ()
    n_sigs_refund: int = 1
    sigflag: SigFlag = SigFlag.SIG_INPUTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _key(self.data))
        object.__setattr__(self, "pubkeys", tuple(_key(key) for key in self.pubkeys))
        object.__setattr__(self, "refund", tuple(_key(key) for key in self.refund))
        object.__setattr__(self, "sigflag", _sigflag(self.sigflag))
        if any(type(n) not in (int, type(None)) for n in (self.n_sigs, self.locktime, self.n_sigs_refund)):
            raise LockError("the numbers of a lock must be whole: int(time.time()) for a locktime")
        if len(self.slots) > MAX_KEYS:
            raise LockError(f"a lock can name {MAX_KEYS} keys at most")
        most = MAX_SIGNATURES if self.sigflag is SigFlag.SIG_INPUTS else MAX_SIGNATURES_ALL
        for keys, needed in ((self.keys, self.n_sigs), (self.refund, self.n_sigs_refund)):
            if len(_xs(keys)) != len(keys):
                raise LockError("a lock names a key twice in one pathway: mints refuse it")
            if not 1 <= needed <= min(max(len(keys), 1), most):
                raise LockError("a lock asks for more signatures than can be given")
        if self.locktime is not None and not 0 < self.locktime <= MAX_LOCKTIME:
            raise LockError("a locktime must be Unix seconds above zero")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the locktime pathway."""
        return (self.data, *self.pubkeys)

    @property
    def slots(self) -> tuple[str, ...]:
        """All keys in the order of NUT-28: data, pubkeys, refund."""
        return (*self.keys, *self.refund)

    def expired(self, at: int) -> bool:
        """Tell whether the locktime lies before ``at`` (Unix seconds)."""
        return self.locktime is not None and at > self.locktime

    def anyone_can_spend(self, at: int) -> bool:
        """Tell whether no signature is needed at ``at`` (Unix seconds)."""
        return self.expired(at) and not self.refund

    def signers(self, at: int) -> tuple[tuple[Pathway, tuple[str, ...], int], ...]:
        """Return the pathways open at ``at`` (Unix seconds) that need signatures: name, keys, how many."""
        locktime = (Pathway.LOCKTIME, self.keys, self.n_sigs)
        if self.expired(at) and self.refund:
            return (locktime, (Pathway.REFUND, self.refund, self.n_sigs_refund))
        return (locktime,)

    def pathway(self, keys: Collection[str], at: int) -> Pathway | None:
        """Return how the owner of ``keys`` can spend at ``at``, or None where they cannot.

        A pathway that needs signatures goes before ``ANYONE``: it holds at a mint whose clock is behind, too.

        Args:
            keys: public keys in hex; their parity does not matter.
            at: Unix seconds by the mint's clock.
        """
        for name, named, needed in self.signers(at):
            if len(_xs(named) & _xs(keys)) >= needed:
                return name
        return Pathway.ANYONE if self.anyone_can_spend(at) else None

    def exclusive_to(self, keys: Collection[str], until: int) -> bool:
        """Tell whether the owner of ``keys`` can spend, and nobody can without them, until ``until``.

        ``SIG_ALL`` is never exclusive: Nutshell 0.20 melts such a proof unsigned beside any other proof.

        Args:
            keys: public keys in hex; their parity does not matter.
            until: Unix seconds; the locktime must not lie before it, unless the refund keys are the owner's.
        """
        if self.sigflag is SigFlag.SIG_ALL or self.anyone_can_spend(until) or self.pathway(keys, 0) is None:
            return False
        return all(len(_xs(named) - _xs(keys)) < needed for _, named, needed in self.signers(until))

    @property
    def tags(self) -> tuple[tuple[str, ...], ...]:
        """The tags that state this lock, without those that say what holds anyway."""
        tags: list[tuple[str, ...]] = []
        if self.sigflag is not SigFlag.SIG_INPUTS:
            tags.append(("sigflag", self.sigflag.value))
        if self.pubkeys:
            tags.append(("pubkeys", *self.pubkeys))
        if self.n_sigs > 1:
            tags.append(("n_sigs", str(self.n_sigs)))
        if self.locktime is not None:
            tags.append(("locktime", str(self.locktime)))
        if self.refund:
            tags.append(("refund", *self.refund))
        if self.n_sigs_refund > 1:
            tags.append(("n_sigs_refund", str(self.n_sigs_refund)))
        return tuple(tags)

    def secret(self, nonce: str) -> str:
        """Write the secret of a proof locked this way (NUT-10).

        Args:
            nonce: 32 to 128 hex digits that nobody can guess and that are never used again.

        Raises:
            LockError: the nonce is of another form, or the secret would be longer than mints take.
        """
        if _NONCE.fullmatch(nonce) is None:
            raise LockError("a lock's nonce must be 32 to 128 lowercase hex digits")
        return write_condition(SpendingCondition(KIND, self.data, self.tags, nonce))

    @classmethod
    def from_condition(cls, condition: SpendingCondition) -> Self:
        """Read a lock out of a condition.

        Raises:
            LockError: another kind, an unknown or repeated tag, or a value of the wrong form.
        """
        if condition.kind != KIND:
            what = "a hash (NUT-14)" if condition.kind == "HTLC" else "a kind that is not known"
            raise LockError(f"the token has a lock of {what}: only locks to public keys (P2PK) are accepted")
        tags = _tags(condition.tags)
        locktime = _number(tags, "locktime")
        if "n_sigs_refund" in tags and "refund" not in tags:
            raise LockError("a lock asks for refund signatures but names no refund keys")
        return cls(
            data=condition.data,
            pubkeys=tags.get("pubkeys", ()),
            n_sigs=_number(tags, "n_sigs") or 1,
            locktime=locktime,
            refund=tags.get("refund", ()),
            n_sigs_refund=_number(tags, "n_sigs_refund") or 1,
            sigflag=_sigflag(tags.get("sigflag", (SigFlag.SIG_INPUTS,))[0]),
        )

    @classmethod
    def from_option(cls, option: Nut10Option) -> Self:
        """Read the lock that a payment request asks for (NUT-18); errors as in ``from_condition``."""
        return cls.from_condition(SpendingCondition(option.kind, option.data, option.tags))

    def to_option(self) -> Nut10Option:
        """Return the lock as a payment request asks for it (NUT-18)."""
        return Nut10Option(KIND, self.data, self.tags)


@dataclass(frozen=True, slots=True)
class CommonLock:
    """How a set of proofs is locked: none of them, all the same way (``lock``), or not alike."""

    state: Literal["unlocked", "locked", "mixed"]
    lock: P2PK | None = None


def read_lock(secret: str) -> P2PK | None:
    """Read the lock that a proof's secret states; None for an ordinary secret.

    Raises:
        LockError: the secret states a condition that is not a P2PK lock of the strict form. Such a proof is
            kept, but counts neither as ours nor as spendable.
    """
    condition = read_condition(secret)
    return None if condition is None else P2PK.from_condition(condition)


def common_lock(proofs: Iterable[Proof]) -> CommonLock:
    """Tell whether proofs are unlocked, locked the same way, or mixed; errors as in ``read_lock``."""
    locks = {read_lock(proof.secret) for proof in proofs}
    if len(locks) > 1:
        return CommonLock("mixed")
    lock = locks.pop() if locks else None
    return CommonLock("unlocked" if lock is None else "locked", lock)


def lock_satisfies(option: Nut10Option, proof: Proof) -> bool:
    """Tell whether a proof is locked exactly as a payment request asks (NUT-18).

    Keys of a blinded lock (NUT-28) must be unblinded first.

    Raises:
        LockError: what is asked for is not a P2PK lock of the strict form.
    """
    wanted = P2PK.from_option(option)
    try:
        return read_lock(proof.secret) == wanted
    except LockError:
        return False


def _xs(keys: Iterable[str]) -> set[str]:
    return {x_only(key) for key in keys}


def _key(key: str) -> str:
    lower = key.lower()
    try:
        if _KEY.fullmatch(lower) is None:
            raise ValueError
        curve.point(lower)
    except ValueError:
        raise LockError("a lock names a key that is not a compressed public key") from None
    return lower


def _tags(tags: Iterable[tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    read: dict[str, tuple[str, ...]] = {}
    for name, *values in tags:
        if name not in _LISTS | _SINGLE:
            raise LockError("a lock has a tag that is not known: what it means cannot be kept")
        if name in read:
            raise LockError("a lock repeats a tag: mints differ in which of the two counts")
        if not values or (name in _SINGLE and len(values) > 1):
            raise LockError("a lock has a tag with too few or too many values")
        read[name] = tuple(values)
    return read


def _number(tags: Mapping[str, tuple[str, ...]], name: str) -> int | None:
    if name not in tags:
        return None
    if _NUMBER.fullmatch(tags[name][0]) is None:
        raise LockError("a lock has a number that mints read differently: it must be plain digits, from 1 on")
    return int(tags[name][0])


def _sigflag(word: str) -> SigFlag:
    try:
        return SigFlag(word)
    except ValueError:
        raise LockError("a lock has a signature flag that is not known") from None
