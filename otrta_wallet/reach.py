"""That a restore reaches everything: no long run of counters that the mint never signed (NUT-13).

A restore looks from counter to counter, and stops where very many in a row were never signed. Each token that
its mint refuses leaves the counters of its outputs unused, and strangers can send such tokens in any number.
So a long run is ended by a swap of our own, and before it is too long tokens are taken with secrets of no
counter. What came of those is swapped in its turn: until then the seed alone does not bring it back.
"""

import secrets
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from otrta_core import Keyset, Proof, input_fee
from otrta_core.curve import ORDER
from otrta_wallet import journal, store
from otrta_wallet.outputs import GivenSecret
from otrta_wallet.records import Output
from otrta_wallet.schema import ProofStatus, outputs, proofs

ASK_FIRST_AFTER = 150
"""After so many counters in a row that came to nothing a token's state is asked for before more are taken."""
BRIDGE_AFTER = 200
"""After so many a swap of our own puts a signature behind them."""
LONGEST_RUN = 1_000
"""The longest run that strangers can make: a third of what a restore looks through unless told otherwise."""


def plan_for_token(
    conn: Connection,
    seed: bytes,
    operation_id: str,
    keyset: Keyset,
    amounts: Sequence[tuple[int, str | None]],
) -> list[Output]:
    """Write the outputs of an operation that takes somebody's token, as ``journal.plan_outputs`` does."""
    if store.unsigned_run(conn, keyset.id, lock=True) + len(amounts) <= LONGEST_RUN:
        return journal.plan_outputs(conn, seed, operation_id, keyset, amounts)
    given = [
        GivenSecret(amount, holder, secrets.token_hex(32), blinding_factor()) for amount, holder in amounts
    ]
    return journal.plan_outputs(conn, seed, operation_id, keyset, (), given)


def blinding_factor() -> str:
    """Return a random blinding factor, in hex."""
    return f"{1 + secrets.randbelow(ORDER - 1):064x}"


def out_of_reach(conn: Connection, mint: str, unit: str, most: int) -> list[Proof]:
    """Return up to ``most`` available proofs that no seed gives, locked for this transaction."""
    query = (
        select(proofs)
        .join(outputs, outputs.c.secret == proofs.c.secret)
        .where(
            outputs.c.secret.is_not(None),
            proofs.c.status == ProofStatus.AVAILABLE,
            proofs.c.mint == mint,
            proofs.c.unit == unit,
        )
        .order_by(proofs.c.y)
        .limit(most)
        .with_for_update(of=proofs, skip_locked=True)
    )
    return [store.as_proof(row) for row in conn.execute(query)]


def cheapest(usable: Sequence[Proof], fee_ppk: Mapping[str, int]) -> list[Proof] | None:
    """Choose the smallest proof that is worth more than its input fee; None where there is none."""
    worthy = [proof for proof in usable if proof.amount > input_fee([proof], fee_ppk)]
    return sorted(worthy, key=lambda proof: proof.amount)[:1] or None
