"""Looking through counters: which of the outputs that a seed makes has the mint signed (NUT-09, NUT-13)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from anyio import to_thread

from otrta_core import Keyset
from otrta_wallet.mint_client import BlindSignature, MintClient
from otrta_wallet.outputs import make_outputs
from otrta_wallet.records import Output

BATCH = 100


@dataclass(frozen=True, slots=True)
class Signed:
    """An output that the mint has signed, with the amount that it signed."""

    counter: int
    output: Output
    signature: BlindSignature


async def signed_in_batch(client: MintClient, seed: bytes, keyset: Keyset, first: int) -> list[Signed]:
    """Ask which of ``BATCH`` counters from ``first`` on the mint has signed, in order of the counters.

    Raises:
        MintError: the mint could not be asked.
    """
    wanted = [(min(keyset.keys), None)] * BATCH  # the mint goes by the blinded message alone
    outputs = await to_thread.run_sync(make_outputs, seed, keyset.id, first, wanted)
    found = await client.restore([output.message() for output in outputs])
    return [
        Signed(counter, replace(output, amount=found[output.blinded].amount), found[output.blinded])
        for counter, output in enumerate(outputs, first)
        if output.blinded in found
    ]


def last_counter(found: Iterable[Signed]) -> int | None:
    """Return the highest counter among signed outputs, or None for none."""
    return max((signed.counter for signed in found), default=None)
