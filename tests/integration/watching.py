"""What a gateway can tell from the calls it saw: everything in which two of them are alike or apart."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.integration.scripted_gateway import Seen

PAYMENT_HEADERS = frozenset({"x-cashu", "content-length"})


@dataclass(frozen=True)
class Trait:
    """One thing that a gateway sees of a call, and what it tells.

    Attributes:
        name: for the table.
        values: of a call; empty where it has none.
        tells: in words, what two calls with the same value have in common.
    """

    name: str
    values: Callable[[Seen], Iterable[object]]
    tells: str


def _proofs(text: Callable[[object], object]) -> Callable[[Seen], Iterable[object]]:
    return lambda seen: [text(proof) for proof in seen.token.proofs]


def _header_rows(seen: Seen) -> Iterable[object]:
    return ["\n".join(f"{name}: {value}" for name, value in seen.headers if name not in PAYMENT_HEADERS)]


TRAITS: Sequence[Trait] = (
    Trait("connection", lambda seen: [seen.connection], "one connection is one payer"),
    Trait("secret", _proofs(lambda proof: proof.secret), "the same money"),
    Trait("C", _proofs(lambda proof: proof.C), "the same money"),
    Trait("Y", _proofs(lambda proof: proof.Y), "the same money"),
    Trait("DLEQ", lambda seen: [p.dleq for p in seen.token.proofs if p.dleq], "which blinding of the mint's"),
    Trait("memo", lambda seen: [seen.token.memo], "random: says which payment may fetch its change"),
    Trait("header lines", _header_rows, "the kind of API, not the app"),
    Trait("body", lambda seen: [seen.body], "what is asked, and how the app writes JSON"),
    Trait("keyset", lambda seen: sorted({p.id for p in seen.token.proofs}), "which mint"),
    Trait("paid", lambda seen: [seen.token.amount], "how dear the call may be"),
    Trait(
        "denominations", lambda seen: [tuple(sorted(p.amount for p in seen.token.proofs))], "a payer's stock"
    ),
)


def shared(seen: Sequence[Seen], trait: Trait) -> Counter[object]:
    """Values that more than one call has, with how many have them."""
    found = Counter(value for each in seen for value in set(trait.values(each)))
    return Counter({value: calls for value, calls in found.items() if calls > 1})


def table(seen: Sequence[Seen]) -> str:
    """What links these calls, for people."""
    rows = [f"{'seen by the gateway':<20}{'values':>8}{'shared':>8}{'calls alike':>13}  what it tells"]
    for trait in TRAITS:
        values = {value for each in seen for value in trait.values(each)}
        same = shared(seen, trait)
        most = max(same.values(), default=0)
        rows.append(f"{trait.name:<20}{len(values):>8}{len(same):>8}{most:>13}  {trait.tells}")
    span_s = seen[-1].at - seen[0].at
    rows.append(f"{len(seen)} calls within {span_s:.0f} s, of one address unless a proxy stands between")
    return "\n".join(rows)
