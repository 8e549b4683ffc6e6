"""Figures for Prometheus, without anything that could be spent or that names a payer.

What is in the store is the same whichever worker is asked. What only a process knows, how fast mints answer
and what was refused, has the label ``worker``; add it up over the workers.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from otrta_core import OtrtaError
from otrta_litellm.answers import GateError
from otrta_litellm.holdings import Pieces, pieces_held
from otrta_litellm.rate_keeper import load_rate
from otrta_litellm.rates import Rate
from otrta_litellm.schema import PaymentState, payments
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.transactions import Transactions

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_CALLS: Final = frozenset({"swap", "checkstate", "restore", "keys", "keysets", "info", "mint", "melt"})
_OVER: Final = (PaymentState.SETTLED, PaymentState.CLAIMED)
_OPEN: Final = (PaymentState.RECEIVED, PaymentState.REDEEMING, PaymentState.REDEEMED)
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STARTED: Final = "otrta_started_s"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the store says at one moment.

    Attributes:
        outcomes: how many payments there are that are over, by what became of their call.
        open: how many are not over, by state.
        msat: sums over all that are over: paid, cost, fee, change, excess.
        debts: how much change is owed and not yet made: payments, msat.
        pieces: proofs held, by mint, unit and amount.
        rate: of bitcoin, where feeds give it.
    """

    outcomes: Mapping[str, int]
    open: Mapping[str, int]
    msat: Mapping[str, int]
    debts: tuple[int, int]
    pieces: Pieces
    rate: Rate | None


def read_sample(conn: Connection, now: float) -> Sample:
    """Read the store's figures in one transaction."""
    count = func.count().label("n")
    by_state = select(payments.c.state, payments.c.outcome, count).group_by(
        payments.c.state, payments.c.outcome
    )
    outcomes: dict[str, int] = {}
    still_open = dict.fromkeys((state.value for state in _OPEN), 0)
    for row in conn.execute(by_state):
        if row.state in _OPEN:
            still_open[row.state] += row.n
        else:
            name = "rejected" if row.state == PaymentState.REJECTED else row.outcome or "unknown"
            outcomes[name] = outcomes.get(name, 0) + row.n
    columns = {
        "paid": payments.c.paid_msat,
        "cost": payments.c.cost_msat,
        "fee": payments.c.fee_msat,
        "change": payments.c.change_msat,
        "excess": payments.c.excess_msat,
    }
    sums = [func.coalesce(func.sum(column), 0) for column in columns.values()]
    summed = conn.execute(select(*sums).where(payments.c.state.in_(_OVER))).one()
    owed = func.coalesce(func.sum(payments.c.change_msat), 0)
    debts = conn.execute(select(func.count(), owed).where(payments.c.change_due)).one()
    return Sample(
        outcomes,
        still_open,
        {name: int(value) for name, value in zip(columns, summed, strict=True)},
        (int(debts[0]), int(debts[1])),
        pieces_held(conn, now),
        load_rate(conn, now).rate,
    )


class Metrics:
    """The figures of one process. ``mints`` are the URLs that may stand in a label."""

    def __init__(self, mints: Sequence[str]) -> None:
        self._mints = sorted(mints, key=len, reverse=True)
        self._worker = str(os.getpid())
        self._registry = CollectorRegistry()
        self._refused = Counter(
            "otrta_refused",
            "Calls that were not served, by the code of the answer.",
            ("worker", "code"),
            registry=self._registry,
        )
        self._mint_s = Histogram(
            "otrta_mint_seconds",
            "How long mints took to answer.",
            ("worker", "mint", "call"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def refused(self, error: OtrtaError) -> None:
        """Count a call that is not served."""
        code = error.gate_code if isinstance(error, GateError) else error.code
        self._refused.labels(self._worker, code).inc()

    def mint_client(self) -> httpx.AsyncClient:
        """Make the client that talks to mints, with a clock on each of its calls."""
        client = new_http_client()
        client.event_hooks = {"request": [self._begin], "response": [self._end]}
        return client

    async def render(self, transactions: Transactions, away: Sequence[str]) -> bytes:
        """Return all figures as Prometheus reads them; ``away`` are the mints that do not answer."""
        sample = await transactions.run(read_sample)
        stored = CollectorRegistry()
        stored.register(_Stored(sample, away, self._worker, transactions.now()))
        return bytes(generate_latest(stored)) + bytes(generate_latest(self._registry))

    async def _begin(self, request: httpx.Request) -> None:
        request.extensions = {**request.extensions, _STARTED: time.perf_counter()}

    async def _end(self, response: httpx.Response) -> None:
        url = str(response.request.url)
        mint = next((m for m in self._mints if url.startswith(f"{m}/")), "other")
        parts = url.removeprefix(mint).split("/")
        call = parts[2].partition("?")[0] if len(parts) > 2 else ""
        took_s = time.perf_counter() - response.request.extensions[_STARTED]
        self._mint_s.labels(self._worker, mint, call if call in _CALLS else "other").observe(took_s)


class _Stored:
    """A sample as Prometheus's collectors give it."""

    def __init__(self, sample: Sample, away: Sequence[str], worker: str, now: float) -> None:
        self._sample, self._away, self._worker, self._now = sample, away, worker, now

    def collect(self) -> Iterator[Metric]:
        sample = self._sample
        outcomes = CounterMetricFamily(
            "otrta_payments", "Payments that are over, by what became of their call.", labels=("outcome",)
        )
        for outcome, count in sorted(sample.outcomes.items()):
            outcomes.add_metric((outcome,), count)
        yield outcomes
        msat = CounterMetricFamily("otrta_msat", "Sums over payments that are over.", labels=("kind",))
        for kind, amount in sample.msat.items():
            msat.add_metric((kind,), amount)
        yield msat
        still_open = GaugeMetricFamily(
            "otrta_open_payments", "Payments that are not over.", labels=("state",)
        )
        for state, count in sample.open.items():
            still_open.add_metric((state,), count)
        yield still_open
        yield GaugeMetricFamily("otrta_open_debts", "Payments whose change is owed.", value=sample.debts[0])
        yield GaugeMetricFamily("otrta_open_debts_msat", "Change that is owed.", value=sample.debts[1])
        pieces = GaugeMetricFamily("otrta_proofs", "Proofs held.", labels=("mint", "unit", "amount"))
        for (mint, unit, amount), count in sorted(sample.pieces.items()):
            pieces.add_metric((mint, unit, str(amount)), count)
        yield pieces
        away = GaugeMetricFamily("otrta_mint_away", "Mints that do not answer.", labels=("worker", "mint"))
        for mint in self._away:
            away.add_metric((self._worker, mint), 1)
        yield away
        if sample.rate is not None:
            yield GaugeMetricFamily("otrta_btc_usd", "The rate in force.", value=float(sample.rate.usd))
            age_s = self._now - sample.rate.at
            yield GaugeMetricFamily("otrta_btc_usd_age_seconds", "How old the rate is.", value=age_s)
