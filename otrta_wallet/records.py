"""What the store hands out: frozen values, never rows."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OperationKind = Literal["mint", "receive", "redeem", "offline", "swap", "lock", "reclaim", "batch", "melt"]
"""receive: somebody's token, at once; redeem: one that was kept first; offline: one locked to our keys
that counted as paid before its swap; swap and reclaim: our own proofs;
lock: our own as well, made into a token that is locked to keys; batch: several tokens by one swap."""
OperationState = Literal["stored", "waiting", "joined", "prepared", "done", "failed"]
"""waiting: a token that is to be taken, alone or with others; joined: a batch is taking it."""
TransferState = Literal["making", "open", "reclaiming", "claimed", "reclaimed"]
"""making: its proofs are still to come from its mint; if they never do, it stays so."""
StoredQuoteState = Literal["open", "minting", "issued", "lost", "expired"]
"""lost: somebody else turned it into e-cash; expired: it is not asked for any more, unless by hand."""
StoredMeltState = Literal["open", "paying", "paid", "expired"]
MeltState = Literal["pending", "paid", "failed"]


@dataclass(frozen=True, slots=True)
class Operation:
    """A journalled operation at a mint; amounts in its unit.

    Attributes:
        amount: what comes out: the inputs less the fee, or the quote's amount.
        fee: what the mint keeps; of a melt under way the input fee only, of one that is done all that was
            neither paid out nor came back.
        reference: of whoever asked for it, such as a payment's id.
        error: why it failed, or None.
        changed_at: of a prepared one, when its last post without an answer began.
        due_at: when an ``offline`` one should be swapped at the latest, in unix seconds; None for no matter.
    """

    id: str
    kind: OperationKind
    state: OperationState
    mint: str
    unit: str
    amount: int
    fee: int
    quote_id: str | None = field(repr=False)  # whoever knows it can mint (NUT-04)
    reference: str | None
    error: str | None
    created_at: float
    changed_at: float
    due_at: float | None = None


def new_operation(
    kind: OperationKind,
    mint: str,
    unit: str,
    amount: int,
    fee: int,
    now: float,
    *,
    quote_id: str | None = None,
    reference: str | None = None,
) -> Operation:
    """Make a prepared operation with an id of its own."""
    return Operation(
        uuid.uuid4().hex, kind, "prepared", mint, unit, amount, fee, quote_id, reference, None, now, now
    )


@dataclass(frozen=True, slots=True)
class Output:
    """A planned output: what its secret is derived from, and what the mint sees of it.

    Attributes:
        counter: what secret and blinding factor are derived from (NUT-13); None where they are given.
        amount: 0 for a blank, whose amount is the mint's to choose (NUT-08) and not known yet.
        secret: one that states a lock, and so cannot be derived; None for a derived one.
        r: the blinding factor of such a secret, in hex.
    """

    position: int
    keyset_id: str
    counter: int | None
    amount: int
    blinded: str
    holder: str | None = None
    secret: str | None = field(default=None, repr=False)
    r: str | None = field(default=None, repr=False)

    def message(self) -> dict[str, int | str]:
        """Return the BlindedMessage of NUT-00."""
        return {"amount": self.amount or 1, "id": self.keyset_id, "B_": self.blinded}


@dataclass(frozen=True, slots=True)
class Quote:
    """An invoice that turns into e-cash when it is paid."""

    id: str = field(repr=False)  # whoever knows it can mint (NUT-04)
    mint: str
    unit: str
    amount: int
    request: str
    state: StoredQuoteState
    expiry: int | None
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MeltQuote:
    """A mint's offer to pay a Lightning invoice (NUT-05, NUT-23); amounts in its unit.

    Attributes:
        amount: what the invoice asks for.
        fee_reserve: what paying it may cost beyond that at most, without the input fee; what is not needed
            comes back.
        expiry: until when the offer holds, in unix seconds.
        preimage: the receipt of a paid invoice, where the mint gave one.
        owed: what the mint has kept back beyond amount, reserve and input fee.
    """

    id: str = field(repr=False)
    mint: str
    unit: str
    amount: int
    fee_reserve: int
    request: str = field(repr=False)
    state: StoredMeltState
    expiry: int | None
    created_at: float
    preimage: str | None = field(default=None, repr=False)
    owed: int = 0


@dataclass(frozen=True, slots=True)
class Melt:
    """A payment of an invoice: how it stands, and what it cost.

    Attributes:
        amount: what was paid out, in ``unit``.
        fee: of a paid one all that it cost beyond that, Lightning, inputs and the swap before it together;
            otherwise what it has cost so far.
        error: why it failed, or None.
    """

    operation_id: str
    mint: str
    unit: str
    amount: int
    fee: int
    state: MeltState
    preimage: str | None = field(repr=False)
    error: str | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A token that left the wallet; ``token`` is None once nobody can spend it any more."""

    id: str
    mint: str
    unit: str
    amount: int
    token: str | None = field(repr=False)
    state: TransferState
    reference: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class MintBalance:
    """What is at one mint in one unit, in that unit.

    Attributes:
        available: what can be spent now.
        pending: what is on its way, in either direction.
        dust: what is ours and only costs its own input fee; it goes along with swaps that have room for it.
    """

    mint: str
    unit: str
    available: int
    pending: int
    dust: int = 0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened to the wallet's money; a negative amount left it."""

    time: float
    kind: str
    amount_msat: int
    fee_msat: int
    mint: str | None
    state: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class ScannedKeyset:
    """What a restore found of one keyset, as far as it has looked; amounts in its unit.

    Attributes:
        found: what is there to be spent and was not known here.
        pending: what the mint says is being spent right now; kept, and asked for again by recovery.
        proofs: how many proofs these two are.
        spent: how many further ones the mint has signed that are spent.
        refused: how many of the mint's signatures did not hold.
        looked_to: the first counter that was not asked for.
        complete: whether enough counters in a row were unknown to the mint.
    """

    keyset_id: str
    unit: str
    found: int
    pending: int
    proofs: int
    spent: int
    refused: int
    looked_to: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What the restore of a mint has found.

    Attributes:
        mint: its URL.
        keysets: every keyset of a unit that is counted here, active or not.
        gone: by unit, what the wallet had for available and the mint for spent.
        complete: whether all of it is done; where not, restoring the same mint goes on.
    """

    mint: str
    keysets: tuple[ScannedKeyset, ...]
    gone: Mapping[str, int]
    complete: bool

    def found(self, unit: str) -> int:
        """Return what came back and can be spent, in a unit."""
        return sum(keyset.found for keyset in self.keysets if keyset.unit == unit)

    def pending(self, unit: str) -> int:
        """Return what came back and is pending at the mint, in a unit."""
        return sum(keyset.pending for keyset in self.keysets if keyset.unit == unit)
