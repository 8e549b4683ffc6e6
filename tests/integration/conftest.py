"""A purse for each mint, and the gateway as its callers see it."""

from collections.abc import Iterator

import pytest

from otrta_cli.processes import Running
from tests.integration.purse import Purse
from tests.integration.shop import Shop


@pytest.fixture(scope="session")
def purse(mint: Running) -> Iterator[Purse]:
    """Makes tokens at the mint without fees."""
    with Purse(mint.url) as purse:
        yield purse


@pytest.fixture(scope="session")
def fee_purse(fee_mint: Running) -> Iterator[Purse]:
    """Makes tokens at the mint with fees."""
    with Purse(fee_mint.url) as purse:
        yield purse


@pytest.fixture(scope="session")
def shop(gateway: Running, upstream: Running) -> Iterator[Shop]:
    """The gateway."""
    with Shop(gateway.url, upstream.url) as shop:
        yield shop
