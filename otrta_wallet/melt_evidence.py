"""What the mint says of the payment of an invoice: its quote, the inputs, and the change that it signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from otrta_core import Proof
from otrta_wallet.errors import MintError, MintRefused
from otrta_wallet.mint_client import BlindSignature, MintClient, PaymentState, ProofState
from otrta_wallet.records import Operation, Output

Signed = Sequence[tuple[Output, BlindSignature]]
"""Blanks that came back, each with its signature."""


@dataclass(frozen=True, slots=True)
class MeltEvidence:
    """The mint's word on a melt.

    Attributes:
        quote_state: None where the mint does not know the quote any more.
        states: of the inputs, by Y.
        preimage: the receipt, where the mint gave one.
        change: the blanks that the mint has signed.
    """

    quote_state: PaymentState | None
    states: Mapping[str, ProofState]
    preimage: str | None
    change: Signed = ()

    @property
    def contradicts_itself(self) -> bool:
        """Whether quote and inputs do not agree on what happened."""
        if self.quote_state == "PAID":
            return set(self.states.values()) != {"SPENT"}
        return "SPENT" in self.states.values()


async def ask_melt(
    client: MintClient, operation: Operation, ys: Sequence[str], blanks: Sequence[Output], pause_s: float
) -> MeltEvidence:
    """Ask for the quote and the inputs, and then for the change.

    Where quote and inputs do not agree on whether it is paid they are asked for again, since the mint may
    have moved on between the questions or be doing so now.

    Raises:
        MintError: the mint could not be asked, or answered nonsense.
    """
    evidence = await _ask_states(client, operation, ys)
    for wait_s in (0.0, pause_s):
        if not evidence.contradicts_itself:
            break
        await anyio.sleep(wait_s)
        evidence = await _ask_states(client, operation, ys)
    return replace(evidence, change=await ask_change(client, blanks))


async def _ask_states(client: MintClient, operation: Operation, ys: Sequence[str]) -> MeltEvidence:
    try:
        quote = await client.melt_quote(operation.quote_id or "")
    except MintRefused:
        return MeltEvidence(None, await client.check_state(ys), None)
    return MeltEvidence(quote.state, await client.check_state(ys), quote.payment_preimage)


async def are_spent(client: MintClient, inputs: Sequence[Proof]) -> bool:
    """Tell whether the mint says that all inputs are spent: a payment that leaves them ours is none.

    False also where it could not be asked, since nothing about the payment follows from that.
    """
    try:
        states = await client.check_state([proof.Y for proof in inputs])
    except MintError:
        return False
    return set(states.values()) == {"SPENT"}


async def ask_change(client: MintClient, blanks: Sequence[Output]) -> Signed:
    """Ask which blanks the mint has signed (NUT-09).

    Raises:
        MintError: the mint could not be asked.
    """
    if not blanks:
        return ()
    found = await client.restore([blank.message() for blank in blanks])
    return [(blank, found[blank.blinded]) for blank in blanks if blank.blinded in found]
