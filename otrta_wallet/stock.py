"""Which denominations a swap makes, so that amounts can be paid out of proofs at hand without another one."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from otrta_core import split_amount, split_for_change
from otrta_wallet import at_hand


def split_for_stock(
    amount: int, at_hand: Mapping[int, int], wanted: Mapping[int, int], denominations: Iterable[int]
) -> list[int]:
    """Split an amount so that the denominations that are wanted and short are made first, the smallest first.

    The rest is split into few parts, none larger than the largest wanted one or a tenth of the amount.

    Args:
        amount: zero or more, in the unit of the keyset.
        at_hand: how many proofs of each denomination there are.
        wanted: how many there should be.
        denominations: what the keyset signs: powers of two, 1 among them.

    Returns:
        The parts in ascending order.
    """
    signable = sorted(denominations)
    parts: list[int] = []
    left = amount
    for piece in signable:
        number = min(max(0, wanted.get(piece, 0) - at_hand.get(piece, 0)), left // piece)
        parts += [piece] * number
        left -= number * piece
    largest = max(*wanted, amount // 10, 1) if wanted else signable[-1]
    return sorted(parts + split_amount(left, [piece for piece in signable if piece <= largest]))


def parts_of(
    conn: Connection,
    mint: str,
    unit: str,
    denominations: Iterable[int],
    amount: int,
    wanted: Mapping[int, int] | None,
) -> list[int]:
    """Return the denominations of a swap that brings an amount.

    Args:
        conn: inside a transaction.
        mint: at which.
        unit: of the amount.
        denominations: what the keyset signs.
        amount: what comes out of the swap.
        wanted: as for ``split_for_stock``; None to make that out of which every smaller amount can be paid,
            whatever is at hand.
    """
    if not wanted:
        return split_for_change(amount, denominations)
    return split_for_stock(amount, at_hand.by_amount(conn, mint, unit), wanted, denominations)
