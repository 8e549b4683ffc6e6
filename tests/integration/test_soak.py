"""Mixed calls while the gateway and the mint are killed: every msat is accounted for, nothing is free."""

import os

import pytest

from bench.soak.run import Plan, soak
from tests.long_summary import Ledger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

LONG = os.environ.get("OTRTA_LONG") == "1"


def test_nothing_is_lost_and_nothing_is_free(ledger: Ledger) -> None:
    plan = (
        Plan(seconds=60.0, clients=16, kill_gateway_s=20.0, kill_mint_s=45.0, settled=200)
        if LONG
        else Plan(seconds=8.0, clients=8, kill_gateway_s=4.0, kill_mint_s=None, most_kills=1, settled=20)
    )
    account = soak(plan)
    assert account["wrong"] == []
    assert account["unaccounted"] == 0
    assert account["gateway_unaccounted"] == 0
    assert account["kills"]["gateway"] >= 1
    assert account["counted"]["settled"] >= plan.settled
    ledger.add(
        kills=sum(account["kills"].values()),
        operations=account["calls"],
        msat_in=account["msat_in"],
        msat_out=account["customers"] + account["earned"],
        msat_pending=account["stuck"],
    )
    ledger.pending += account["stuck_ys"]
