"""Prices side by side: who is cheapest, and what is not a price by the token."""

from otrta_core import ModelPrice
from proxy_trio.page.gateway_views import Offered, besides, cheapest

CHEAP = ModelPrice(input_msat_per_mtok=1_000, output_msat_per_mtok=2_000)
DEAR = ModelPrice(input_msat_per_mtok=2_000, output_msat_per_mtok=2_000)


def test_the_cheapest_is_named_where_prices_differ() -> None:
    offered = {
        "a": Offered({"m": DEAR, "n": DEAR}),
        "b": Offered({"m": CHEAP, "n": DEAR}),
        "c": Offered({"o": None}),
    }
    assert [cheapest(name, offered) for name in ("m", "n", "o", "p")] == ["b", None, None, None]


def test_what_a_call_costs_besides_is_told_in_words() -> None:
    assert besides(CHEAP) == []
    assert besides(ModelPrice(request_msat=500, image_msat=0, second_msat=1_250)) == [
        "0.500 a call",
        "1.250 a second",
    ]
