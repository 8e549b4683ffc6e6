"""Which denominations to make, and which proofs to spend.

Keysets sign powers of two. For such amounts taking the largest piece that still fits is both the
shortest and, where an exact sum exists at all, always finds it: smaller pieces in falling order add up
to each larger one exactly before they pass it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

from otrta_core.errors import AmountError
from otrta_core.proof import Proof

MAX_PARTS = 1000
"""The most parts that an amount is split into, as mints take no more outputs at once."""


def split_amount(amount: int, denominations: Iterable[int] | None = None) -> list[int]:
    """Split an amount into the fewest denominations, in ascending order (NUT-00, NUT-03).

    Args:
        amount: zero or more, in any unit.
        denominations: what the keyset signs; powers of two where not given.

    Raises:
        AmountError: negative, or not a sum of these denominations.
    """
    if amount < 0:
        raise AmountError("an amount cannot be negative")
    if denominations is None:
        return [1 << bit for bit in range(amount.bit_length()) if amount >> bit & 1]
    parts: list[int] = []
    for piece in sorted(denominations, reverse=True):
        count, amount = divmod(amount, piece)
        if len(parts) + count > MAX_PARTS:
            raise AmountError("the keyset's denominations are too small for this amount")
        parts += [piece] * count
    if amount:
        raise AmountError("the keyset's denominations cannot make this amount")
    return parts[::-1]


def blank_outputs(max_change: int, largest: int | None = None) -> int:
    """Return how many blank outputs a melt needs so that no change can be lost (NUT-08).

    Args:
        max_change: the most that can come back, in the token's unit: the inputs less their fee and the amount
            paid, which is the fee reserve and whatever the inputs are above it.
        largest: the largest denomination of the keyset, which has every power of two up to it; unlimited
            where not given.

    Raises:
        AmountError: negative.
    """
    if max_change < 0:
        raise AmountError("an amount cannot be negative")
    if largest is None or max_change < largest:
        return max_change.bit_length()
    return max_change // largest + (largest - 1).bit_length()


def split_for_change(amount: int, denominations: Iterable[int] | None = None) -> list[int]:
    """Split an amount so that every smaller amount can be paid out of the parts without a swap.

    The parts are 1, 2, 4, … as far as they go and the rest in its own fewest parts, ascending.
    Arguments and errors as in ``split_amount``.
    """
    if amount < 0:
        raise AmountError("an amount cannot be negative")
    signable = None if denominations is None else sorted(denominations)
    ladder: list[int] = []
    step = 1
    while step <= amount - sum(ladder) and (signable is None or step in signable):
        ladder.append(step)
        step *= 2
    return sorted(ladder + split_amount(amount - sum(ladder), signable))


def pick_exact(proofs: Sequence[Proof], amount: int, *, max_proofs: int) -> list[Proof] | None:
    """Return the fewest proofs that sum to exactly ``amount``, or None where there are none.

    Args:
        proofs: to choose from; amounts are powers of two. Only their amounts matter, so that the same
            object may stand for several.
        amount: above zero, in the proofs' unit.
        max_proofs: give up beyond this many.
    """
    chosen, _, missing = _greedy(proofs, amount)
    return chosen if missing == 0 and 0 < len(chosen) <= max_proofs else None


def select_proofs(
    proofs: Sequence[Proof],
    amount: int,
    *,
    fee: Callable[[Sequence[Proof]], int] = lambda _proofs: 0,
    max_proofs: int = 64,
) -> list[Proof] | None:
    """Choose proofs worth at least ``amount`` after their own input fee, with little beyond it.

    Args:
        proofs: to choose from, all of one unit; only their amounts and keysets matter, as above.
        amount: what must remain after the fee, above zero, in the proofs' unit.
        fee: the input fee of a set of proofs, in the same unit: summed ppk, rounded up (NUT-02).
        max_proofs: the most proofs to use.

    Returns:
        The proofs, or None where no choice of so many reaches. Never more proofs than needed: without
        any one of them the rest would not reach.
    """
    if amount <= 0:
        raise AmountError("an amount to select must be above zero")
    worth = _net_worth(proofs, fee)
    usable = [proof for proof in proofs if worth(proof) > 0]  # others would only raise what is needed
    target = amount
    for _ in range(max_proofs + 1):
        chosen = _cover(usable, target, max_proofs)
        if chosen is None:
            break
        needed = amount + fee(chosen)
        if sum(p.amount for p in chosen) >= needed:
            return _without_needless(chosen, amount, fee)
        target = max(needed, target + 1)
    return _worthiest_first(usable, amount, fee, max_proofs)


def ride_along(chosen: Sequence[Proof], proofs: Iterable[Proof], fee_ppk: Mapping[str, int]) -> list[Proof]:
    """Return proofs that can be spent with the chosen ones although each alone would bring nothing.

    Fees are rounded up once for all inputs of an operation (NUT-02): what the rounding leaves is room for
    proofs that are worth no more than their own input fee. They never make the fee higher.

    Args:
        chosen: what is spent anyway.
        proofs: all that could be, of the same unit, the chosen ones among them or not.
        fee_ppk: input fee by keyset id.
    """
    room_ppk = -sum(fee_ppk[proof.id] for proof in chosen) % 1000
    riders: list[Proof] = []
    others = Counter(proof for proof in proofs if is_uneconomic(proof, fee_ppk)) - Counter(chosen)
    for proof in sorted(others.elements(), key=lambda p: (-p.amount, fee_ppk[p.id])):
        if fee_ppk[proof.id] <= room_ppk:
            room_ppk -= fee_ppk[proof.id]
            riders.append(proof)
    return riders


def is_uneconomic(proof: Proof, fee_ppk: Mapping[str, int]) -> bool:
    """Tell whether a proof that is spent alone would bring nothing, since its input fee eats it."""
    return proof.amount <= -(-fee_ppk[proof.id] // 1000)


def _greedy(proofs: Sequence[Proof], amount: int) -> tuple[list[Proof], Proof | None, int]:
    """Return what is taken, the smallest that was too large to be taken, and what is still missing."""
    chosen: list[Proof] = []
    too_large: Proof | None = None
    for proof in sorted(proofs, key=attrgetter("amount"), reverse=True):
        if proof.amount > amount:
            too_large = proof
            continue
        chosen.append(proof)
        amount -= proof.amount
        if amount == 0:
            break
    return chosen, too_large, amount


def _cover(proofs: Sequence[Proof], target: int, max_proofs: int) -> list[Proof] | None:
    chosen, too_large, missing = _greedy(proofs, target)
    if missing:
        if too_large is None:
            return None
        # every unused proof is larger than what is missing
        chosen = [*chosen, too_large]
    return chosen if len(chosen) <= max_proofs else None


def _without_needless(chosen: list[Proof], amount: int, fee: Callable[[Sequence[Proof]], int]) -> list[Proof]:
    """Drop from proofs that reach an amount what they do not need for it."""
    worth = _net_worth(chosen, fee)
    spare = sum(map(worth, chosen)) - 1000 * amount
    kept: list[Proof] = []
    for proof in sorted(chosen, key=worth):
        if worth(proof) <= spare:
            spare -= worth(proof)
        else:
            kept.append(proof)
    return sorted(kept, key=lambda p: p.amount)


def _net_worth(proofs: Sequence[Proof], fee: Callable[[Sequence[Proof]], int]) -> Callable[[Proof], int]:
    """Return what each proof is worth after its own fee, in thousandths of a unit.

    A thousand proofs of a keyset cost exactly its ppk, without rounding. Proofs reach an amount exactly
    when their net worth adds up to a thousand times it, so the k worthiest reach it if any k do.
    """
    fee_ppk = {proof.id: fee([proof] * 1000) for proof in {p.id: p for p in proofs}.values()}
    return lambda proof: 1000 * proof.amount - fee_ppk[proof.id]


def _worthiest_first(
    proofs: Sequence[Proof], amount: int, fee: Callable[[Sequence[Proof]], int], max_proofs: int
) -> list[Proof] | None:
    worth = _net_worth(proofs, fee)
    chosen = sorted(proofs, key=worth, reverse=True)[:max_proofs]
    reached = sum(map(worth, chosen)) >= 1000 * amount
    return _without_needless(chosen, amount, fee) if reached else None
