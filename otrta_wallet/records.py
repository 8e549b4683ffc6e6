"""What the store hands out: frozen values, never rows."""

import uuid
from dataclasses import dataclass, field
from typing import Literal

OperationKind = Literal["mint", "receive", "redeem", "swap", "reclaim"]
"""receive: somebody's token, at once; redeem: one that was kept first; swap and reclaim: our own proofs."""
OperationState = Literal["stored", "prepared", "done", "failed"]
TransferState = Literal["open", "reclaiming", "claimed", "reclaimed"]
StoredQuoteState = Literal["open", "minting", "issued", "lost", "expired"]
"""lost: somebody else turned it into e-cash; expired: it is not asked for any more, unless by hand."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A journalled operation at a mint; amounts in its unit.

    Attributes:
        amount: what comes out: the inputs less the fee, or the quote's amount.
        reference: of whoever asked for it, such as a payment's id.
        error: why it failed, or None.
        changed_at: of a prepared one, when its last post without an answer began.
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
    """A planned output: what its secret is derived from, and what the mint sees of it."""

    position: int
    keyset_id: str
    counter: int
    amount: int
    blinded: str
    holder: str | None = None

    def message(self) -> dict[str, int | str]:
        """Return the BlindedMessage of NUT-00."""
        return {"amount": self.amount, "id": self.keyset_id, "B_": self.blinded}


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
    """What is at one mint in one unit, in that unit."""

    mint: str
    unit: str
    available: int
    pending: int


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
