"""Payment requests mean the same to a stranger's wallet, whoever wrote them (NUT-18)."""

from dataclasses import replace

import pytest

from otrta_core import Nut10Option, PaymentRequest, Transport

REQUESTS = {
    "empty": (PaymentRequest(), {}),
    "amount": (PaymentRequest(amount=110, unit="msat"), {"a": 110, "u": "msat"}),
    "gateway": (
        PaymentRequest(
            amount=2_147_483_648, unit="msat", mints=("http://127.0.0.1:3338", "https://mint.example")
        ),
        {"a": 2_147_483_648, "u": "msat", "m": ["http://127.0.0.1:3338", "https://mint.example"]},
    ),
    "all": (
        PaymentRequest(
            amount=1,
            unit="sat",
            mints=("https://mint.example",),
            id="b7a90176",
            description="für Erdnüsse 🥜",
            single_use=True,
            transports=(Transport("post", "https://shop.example/pay", (("n", "17"),)),),
            nut10=Nut10Option("P2PK", "02" + "ab" * 32, (("locktime", "1900000000"),)),
        ),
        {
            "a": 1,
            "u": "sat",
            "m": ["https://mint.example"],
            "i": "b7a90176",
            "d": "für Erdnüsse 🥜",
            "s": True,
            "t": [{"t": "post", "a": "https://shop.example/pay", "g": [["n", "17"]]}],
            "nut10": {"k": "P2PK", "d": "02" + "ab" * 32, "t": [["locktime", "1900000000"]]},
        },
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_stranger_reads_ours(node, name):
    ours, raw = REQUESTS[name]
    read = {key: value for key, value in node.call("readRequest", text=ours.encode("creqA")).items() if value}
    assert read == raw


@pytest.mark.parametrize("name", REQUESTS)
def test_we_read_a_strangers(node, name):
    ours, raw = REQUESTS[name]
    read = PaymentRequest.parse(node.call("writeRequest", raw=raw, form="creqA"))
    assert read.single_use in (ours.single_use, False)  # theirs always says
    assert replace(read, single_use=ours.single_use) == ours
