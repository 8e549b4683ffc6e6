"""Settings: one sentence for the first thing that is wrong, naming its key."""

from decimal import Decimal
from pathlib import Path

import pytest

from otrta_core import ModelPrice, Unit
from otrta_litellm.rate_settings import BtcUsd
from otrta_litellm.rates import RateRules
from otrta_litellm.settings import SettingsError, load_settings, store_url

GOOD = {"store": "gateway", "mints": "https://a.example"}


def test_the_least_that_is_needed_is_a_store_and_a_mint() -> None:
    found = load_settings(GOOD, {})
    assert found.mints == ("https://a.example",)
    assert (found.unit, found.redeem, found.rounding) == (Unit.MSAT, "before", "up")
    assert (found.max_token_bytes, found.max_proofs) == (32_768, 64)
    assert (found.default_output_tokens, found.min_output_tokens, found.claim_days) == (1024, 16, 365)


@pytest.mark.parametrize(
    "mints",
    [
        "https://a.example/,https://B.example, https://a.example",
        ["https://a.example", "https://b.example/"],
        "https://a.example,https://b.example,",
    ],
)
def test_mints_are_a_list_or_a_text_with_commas(mints: object) -> None:
    found = load_settings(GOOD | {"mints": mints}, {})
    assert found.mints == ("https://a.example", "https://b.example")


def test_the_environment_stands_before_the_config() -> None:
    environ = {
        "OTRTA_GATEWAY_UNIT": "sat",
        "OTRTA_GATEWAY_MINTS": "https://c.example,https://d.example",
        "OTRTA_GATEWAY_MAX_PROOFS": "10",
        "OTRTA_GATEWAY_ALLOW_ZERO": "true",
        "OTHER": "x",
    }
    found = load_settings(GOOD, environ)
    assert (found.unit, found.max_proofs, found.allow_zero) == (Unit.SAT, 10, True)
    assert found.mints == ("https://c.example", "https://d.example")


def test_what_is_not_in_the_config_may_be_in_the_environment() -> None:
    environ = {"OTRTA_GATEWAY_STORE": "s", "OTRTA_GATEWAY_MINTS": "https://a.example"}
    assert load_settings(None, environ).store == "s"


def test_prices_are_of_whole_msat() -> None:
    found = load_settings(GOOD | {"prices": {"m": {"input_msat_per_mtok": 5, "request_msat": 1}}}, {})
    assert found.prices == {"m": ModelPrice(input_msat_per_mtok=5, request_msat=1)}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("store", {"store": None}),
        ("store", {"store": ""}),
        ("store", {"store": 5}),
        ("mints", {"mints": None}),
        ("mints", {"mints": []}),
        ("mints", {"mints": " , "}),
        ("mints", {"mints": {"a": "b"}}),
        ("mints", {"mints": [5]}),
        ("", {"mints": "ftp://a.example"}),
        ("", {"mints": "https://user:pass@a.example"}),
        ("unit", {"unit": "usd"}),
        ("redeem", {"redeem": "after"}),
        ("lock", {"lock": "maybe"}),
        ("margin", {"margin": "-1"}),
        ("margin", {"margin": "five"}),
        ("btc_usd", {"btc_usd": "100000"}),
        ("btc_usd", {"btc_usd": {}}),
        ("btc_usd", {"btc_usd": {"fixed": "0"}}),
        ("btc_usd", {"btc_usd": {"fixed": "1", "every_s": 60}}),
        ("btc_usd.feeds", {"btc_usd": {"feeds": "all"}}),
        ("btc_usd.feeds.0.format", {"btc_usd": {"feeds": [{"format": "gemini"}]}}),
        ("btc_usd.feeds.0", {"btc_usd": {"feeds": [{"format": "kraken", "url": "http://feed.example/"}]}}),
        ("btc_usd.feeds.0", {"btc_usd": {"feeds": [{"format": "kraken", "url": "https://u:p@a.example"}]}}),
        ("btc_usd.feeds.0", {"btc_usd": {"feeds": [{"format": "kraken", "url": "file:///etc/passwd"}]}}),
        ("btc_usd", {"btc_usd": {"feeds": "public", "min_feeds": 4}}),
        ("btc_usd", {"btc_usd": {"feeds": "public", "max_jump": "1"}}),
        ("btc_usd.max_jump", {"btc_usd": {"feeds": "public", "max_jump": "-0.1"}}),
        ("btc_usd", {"btc_usd": {"feeds": "public", "every_s": 400}}),
        ("btc_usd.max_age_s", {"btc_usd": {"feeds": "public", "max_age_s": 10}}),
        ("btc_usd.fixed", {"btc_usd": {"fixed": "1e5"}}),
        ("btc_usd.feed", {"btc_usd": {"fixed": "1", "feed": "x"}}),
        ("prices", {"prices": [1]}),
        ("prices", {"prices": {"m": 5}}),
        ("prices", {"prices": {"m": {}}}),
        ("prices", {"prices": {"m": {"input": 5}}}),
        ("", {"prices": {"m": {"input_msat_per_mtok": -5}}}),
        ("", {"prices": {"m": {"input_msat_per_mtok": 0.5}}}),
        ("rounding", {"rounding": "nearest"}),
        ("max_proofs", {"max_proofs": 0}),
        ("max_token_bytes", {"max_token_bytes": "many"}),
        ("claim_days", {"claim_days": 0}),
        ("made_up", {"made_up": 1}),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(key: str, values: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(GOOD | values, {})
    assert caught.value.message.startswith(
        f"callback_settings.otrta.{key}" if key else "callback_settings.otrta"
    )
    assert "\n" not in caught.value.message


def test_public_feeds_are_the_three_that_are_known() -> None:
    found = load_settings(GOOD | {"btc_usd": {"feeds": "public"}}, {}).btc_usd
    assert found is not None
    assert [feed.format for feed in found.feeds] == ["kraken", "coinbase", "bitstamp"]
    assert all(feed.address.startswith("https://") for feed in found.feeds)
    assert found.rules == RateRules(max_age_s=600, max_jump=Decimal("0.05"), min_feeds=2)


def test_feeds_of_ones_own_may_be_on_this_machine() -> None:
    feeds = [{"format": "kraken", "url": "http://127.0.0.1:9/x"}]
    found = load_settings(GOOD | {"btc_usd": {"feeds": feeds}}, {}).btc_usd
    assert found is not None
    assert (found.feeds[0].address, found.least_feeds) == ("http://127.0.0.1:9/x", 1)


def test_unquoted_figures_are_taken_as_they_stand() -> None:
    found = load_settings(GOOD | {"margin": 0.05, "btc_usd": {"fixed": 100000}}, {})
    assert (found.margin, found.btc_usd) == ("0.05", BtcUsd(fixed="100000"))


def test_settings_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(SettingsError, match="must be a mapping"):
        load_settings(["store"], {})  # type: ignore[arg-type]


def test_what_is_wrong_in_the_environment_is_named_too() -> None:
    with pytest.raises(SettingsError, match=r"callback_settings\.otrta\.unit"):
        load_settings(GOOD, {"OTRTA_GATEWAY_UNIT": "dollars"})


def test_a_rates_text_is_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(GOOD | {"store": 5, "made_up": "hunter2"}, {})
    assert "hunter2" not in caught.value.message


def test_a_store_is_a_directory_or_a_url(tmp_path: Path) -> None:
    assert store_url(str(tmp_path)) == f"sqlite:///{tmp_path}/gateway.sqlite3"
    assert store_url("postgresql://db/x") == "postgresql://db/x"
