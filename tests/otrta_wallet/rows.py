"""Rows for tests that need no mint: proofs, keysets and operations made up of nothing."""

from contextlib import contextmanager
from itertools import count

from sqlalchemy import select

from otrta_core import Keyset, Proof
from otrta_wallet import store
from otrta_wallet.database import open_engine
from otrta_wallet.records import new_operation
from otrta_wallet.schema import ProofStatus, proofs

MINT = "http://127.0.0.1:1"
POINT = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
KEYSET = Keyset("00" + "ab" * 7, "msat", {1 << bit: POINT for bit in range(63)}, 100)
NOW = 1_000.0
_numbers = count()


def proof(amount=1):
    return Proof(amount, KEYSET.id, f"secret-{next(_numbers)}", POINT)


@contextmanager
def transaction(url):
    """A transaction on a store, on a connection of its own."""
    engine = open_engine(url)
    try:
        with engine.begin() as conn:
            yield conn
    finally:
        engine.dispose()


def put(conn, found, status, holder=None):
    """Store proofs as having a status, whatever the rules of the wallet."""
    store.insert_proofs(
        conn, [(p, holder) for p in found], mint=MINT, unit="msat", status=ProofStatus.SPENT, now=NOW
    )
    store.move_proofs(
        conn, [p.Y for p in found], was=ProofStatus.SPENT, now_is=status, holder=holder, now=NOW
    )


def statuses(conn):
    """What is stored: status and holder by secret."""
    query = select(proofs.c.secret, proofs.c.status, proofs.c.holder)
    return {row.secret: (row.status, row.holder) for row in conn.execute(query)}


def operation(kind, amount=1, fee=0, **options):
    return new_operation(kind, MINT, "msat", amount, fee, NOW, **options)
