"""Taking back a token that was handed out: before its receiver does, or once its lock lets us."""

from sqlalchemy import Connection

from otrta_core import input_fee, split_for_change
from otrta_wallet import at_hand, journal, store
from otrta_wallet.custody import sent_in
from otrta_wallet.errors import TokenSpent, TokenUneconomic, WalletError
from otrta_wallet.executor import Executor
from otrta_wallet.lock_keys import LockKeys
from otrta_wallet.mint_book import MintBook
from otrta_wallet.records import Operation, new_operation
from otrta_wallet.schema import ProofStatus
from otrta_wallet.transactions import Transactions


async def reclaim(
    transactions: Transactions,
    mints: MintBook,
    seed: bytes,
    lock_keys: LockKeys,
    executor: Executor,
    transfer_id: str,
) -> Operation:
    """See ``Wallet.reclaim``."""
    transfer = await transactions.run(
        lambda conn, _now: next(iter(store.load_transfers(conn, transfer_id=transfer_id)), None)
    )
    if transfer is None:
        raise WalletError("this wallet has sent no such token")
    await lock_keys.unlocked(await transactions.run(sent_in, transfer_id))
    keyset = await mints.active_keyset(transfer.mint, transfer.unit)

    def prepare(conn: Connection, now: float) -> Operation:
        if not store.set_transfer_state(conn, transfer_id, was=("open",), now_is="reclaiming", now=now):
            raise TokenSpent("this token was claimed or taken back already")
        sent = sent_in(conn, now, transfer_id)
        fee = input_fee(sent, at_hand.fees(conn, transfer.mint))
        net = sum(p.amount for p in sent) - fee
        if net <= 0:
            raise TokenUneconomic("taking this token back would cost all that it is worth")
        operation = new_operation(
            "reclaim", transfer.mint, transfer.unit, net, fee, now, reference=transfer_id
        )
        amounts = [(a, None) for a in split_for_change(net, keyset.keys)]
        journal.begin(conn, seed, operation, sent, keyset, amounts)
        store.move_proofs(
            conn,
            [p.Y for p in sent],
            was=ProofStatus.SENT,
            now_is=ProofStatus.RESERVED,
            holder=operation.id,
            now=now,
        )
        return operation

    return await executor.carry_out(await transactions.run(prepare))
