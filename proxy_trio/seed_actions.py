"""Wallet actions on the seed: its words, and what they bring back from a mint."""

from typing import Any, Final

from sqlalchemy import Connection

from otrta_wallet import Restored, SeedInUse, store
from proxy_trio.action_params import NoParams, RestoreParams
from proxy_trio.client import Client

SLICE_S: Final = 2.0
"""How long one action looks through counters, so that whoever asked can tell how far it has come."""

_TOLD: Final = "seed_told"


async def seed(client: Client, _params: NoParams) -> dict[str, Any]:
    """Tell the seed's words."""
    words = await client.wallet.words()
    await is_first_word_of_seed(client)
    return {"words": words}


async def restore(client: Client, params: RestoreParams) -> dict[str, Any]:
    """Look for what the seed has at a mint, for a while; asked again where it is not complete, it goes on."""
    if not await client.wallet.has_words(params.words):
        raise SeedInUse(f"The wallet in {client.home} has another seed.")
    await is_first_word_of_seed(client)
    restored = await client.wallet.restore(params.url, empty_batches=params.look, budget_s=SLICE_S)
    return _told(restored)


async def is_first_word_of_seed(client: Client) -> bool:
    """Tell whether nobody has been told of this wallet's seed yet, and note that somebody is now."""

    def note(conn: Connection, now: float) -> bool:
        if store.get_setting(conn, _TOLD) is not None:
            return False
        store.put_setting(conn, _TOLD, str(int(now)))
        return True

    return await client.wallet.transactions.run(note)


def _told(restored: Restored) -> dict[str, Any]:
    units = sorted({keyset.unit for keyset in restored.keysets})
    return {
        "mint": restored.mint,
        "complete": restored.complete,
        "units": [
            {
                "unit": unit,
                "found": restored.found(unit),
                "pending": restored.pending(unit),
                "gone": restored.gone.get(unit, 0),
            }
            for unit in units
        ],
        "keysets": [
            {
                "id": keyset.keyset_id,
                "unit": keyset.unit,
                "found": keyset.found,
                "pending": keyset.pending,
                "proofs": keyset.proofs,
                "spent": keyset.spent,
                "refused": keyset.refused,
                "looked_to": keyset.looked_to,
            }
            for keyset in restored.keysets
        ],
    }
