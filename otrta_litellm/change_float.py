"""The float: proofs at hand out of which change is made, and who counts on which of them.

Each running call counts on as many proofs of each denomination as its own token would have to be split into
so that any change of it can be paid. Swaps make what is short of that, and change is made of what no other
call counts on: so it hardly ever takes a swap of its own, and the mint signs little that is never paid out.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from otrta_core import Proof, pick_exact, split_for_change
from otrta_litellm.standing import Standing

Place = tuple[str, str]
"""A mint and a unit."""
Needs = tuple[Place, Counter[int]]


@dataclass(slots=True)
class ChangeFloat:
    """What running calls count on, by their payments' ids. It holds no proofs itself.

    What a call counts on is to be made from the moment on that its token sets out for the mint, and kept from
    others once its swap is done.
    """

    _coming: dict[str, Needs] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)  # transactions run in threads
    _needs: dict[str, Needs] = field(default_factory=dict)
    _sums: dict[Place, Counter[int]] = field(default_factory=dict)
    _arrived: set[str] = field(default_factory=set)
    _kept: dict[Place, Counter[int]] = field(default_factory=dict)
    _standing: dict[Place, Standing] = field(default_factory=dict)

    def count_on(self, payment_id: str, mint: str, unit: str, net: int) -> None:
        """Note that a call begins of whose payment ``net`` will be left after the fee, in its unit."""
        place, needs = (mint, unit), Counter(split_for_change(net))
        with self._lock:
            self._coming[payment_id] = place, needs
            self._standing.setdefault(place, Standing()).begin(needs)

    def set_out(self, payment_ids: Iterable[str | None]) -> None:
        """Note that the tokens of these calls are being swapped; those that were let go stay so."""
        with self._lock:
            for payment_id in payment_ids:
                if payment_id is not None and payment_id in self._coming:
                    place, needs = self._needs[payment_id] = self._coming.pop(payment_id)
                    self._sums.setdefault(place, Counter()).update(needs)

    def arrive(self, payment_ids: Iterable[str | None]) -> None:
        """Note that the tokens of these calls are swapped: what they count on is at hand."""
        with self._lock:
            for payment_id in payment_ids:
                if payment_id is not None and payment_id in self._needs and payment_id not in self._arrived:
                    place, needs = self._needs[payment_id]
                    self._arrived.add(payment_id)
                    self._kept.setdefault(place, Counter()).update(needs)

    def let_go(self, payment_id: str) -> None:
        """Note that a call has its change, or gets none."""
        with self._lock:
            coming = self._coming.pop(payment_id, None)
            under_way = self._needs.pop(payment_id, None)
            place, needs = coming or under_way or (("", ""), Counter[int]())
            if needs:
                self._standing[place].end(needs)
            if under_way is not None:
                self._sums[place] -= needs
            if payment_id in self._arrived:
                self._arrived.discard(payment_id)
                self._kept[place] -= needs

    def wanted(self, mint: str, unit: str) -> dict[int, int]:
        """Return how many proofs of each denomination the running calls count on."""
        with self._lock:
            return dict(self._sums.get((mint, unit), {}))

    def standing(self) -> dict[Place, dict[int, int]]:
        """Return how many proofs of each denomination should be at hand, by mint and unit."""
        with self._lock:
            return {place: wanted for place, each in self._standing.items() if (wanted := each.wanted())}

    def pick(self, payment_id: str, place: Place, usable: Sequence[Proof], amount: int) -> list[Proof] | None:
        """Return proofs of exactly an amount, of those first that no other call counts on; None for none.

        Args:
            payment_id: whose change it is.
            place: mint and unit of the proofs.
            usable: those at hand; only their amounts matter.
            amount: above zero, in the unit.
        """
        most = amount.bit_length()
        with self._lock:
            others = Counter(self._kept.get(place, {}))
            if payment_id in self._arrived:
                others -= self._needs[payment_id][1]
        free = []
        for proof in usable:
            if others[proof.amount] > 0:
                others[proof.amount] -= 1
            else:
                free.append(proof)
        return pick_exact(free, amount, max_proofs=most) or pick_exact(usable, amount, max_proofs=most)
