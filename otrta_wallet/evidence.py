"""What the mint says of an operation: its inputs or its quote, and which of its outputs it has signed.

For the payment of an invoice see ``otrta_wallet.melt_evidence``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from otrta_wallet.decisions import given_up
from otrta_wallet.mint_client import BlindSignature, MintClient, ProofState, QuoteState
from otrta_wallet.records import Operation, Output


@dataclass(frozen=True, slots=True)
class Evidence:
    """The mint's word on an operation.

    Attributes:
        states: of the inputs, by Y.
        quote_state: of what is minted, None for anything else.
        signatures: those on our outputs that there are, in the order of the outputs.
    """

    states: Mapping[str, ProofState]
    quote_state: QuoteState | None
    signatures: Sequence[BlindSignature] = ()

    @property
    def given_up(self) -> bool:
        """Whether no input (or quote) can still be used, says the mint."""
        return given_up(list(self.states.values()), self.quote_state)


async def ask(
    client: MintClient, operation: Operation, ys: Sequence[str], planned: Sequence[Output], pause_s: float
) -> Evidence:
    """Ask for the inputs, then for the signatures; where these contradict each other for the inputs again.

    Raises:
        MintError: the mint could not be asked, or answered nonsense.
    """
    evidence = await ask_states(client, operation, ys)
    signatures = await ask_signatures(client, planned)
    for wait_s in (0.0, pause_s):
        if not signatures or evidence.given_up:
            break
        await anyio.sleep(wait_s)
        evidence = await ask_states(client, operation, ys)
    return replace(evidence, signatures=signatures)


async def ask_states(client: MintClient, operation: Operation, ys: Sequence[str]) -> Evidence:
    """Ask for the states of the inputs, or for that of the quote where there are none; raises as ``ask``."""
    if operation.kind == "mint":
        return Evidence({}, (await client.mint_quote(operation.quote_id or "")).state)
    return Evidence(await client.check_state(ys), None)


async def ask_signatures(client: MintClient, planned: Sequence[Output]) -> list[BlindSignature]:
    """Ask which outputs the mint has signed (NUT-09); raises as ``ask``."""
    found = await client.restore([output.message() for output in planned])
    return [found[output.blinded] for output in planned if output.blinded in found]
