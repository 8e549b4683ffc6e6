"""The client's tables, in the same database as its wallet's."""

from enum import StrEnum

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table, Text

metadata = MetaData()


class CallState(StrEnum):
    """Where the payment of a call is; the transitions are in ``proxy_trio.calls``."""

    IN_FLIGHT = "in_flight"
    AWAITING_CHANGE = "awaiting_change"
    DISPUTED = "disputed"
    DONE = "done"
    REFUNDED = "refunded"
    LOST = "lost"


gateways = Table(
    "gateways",
    metadata,
    Column("url", String, primary_key=True),
    Column("name", String),
    Column("kind", String),  # how it sells, once it has said so
    Column("distrusted_for", Text),  # why it is not paid any more
    Column("added_at", Float, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False, index=True),
    Column("gateway", String, nullable=False),
    Column("model", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("transfer_id", String, nullable=False, index=True),
    Column("paid_msat", BigInteger, nullable=False),
    Column("fee_msat", BigInteger, nullable=False),  # what redeeming the token costs, by our own count
    Column("bound_msat", BigInteger, nullable=False),  # the most that the call may cost
    Column("cost_msat", BigInteger),
    Column("change_msat", BigInteger),
    Column("change_token", Text),  # as it came, until its proofs are stored: see bookkeeper
    Column("input_tokens", BigInteger),  # as the answer states them
    Column("output_tokens", BigInteger),
    Column("missing_msat", BigInteger),  # what the gateway owes by our own count
    Column("reason", Text),
    Column("refused", Boolean, nullable=False, default=False),  # its mint is asked before its gateway
    Column("tries", Integer, nullable=False, default=0),
    Column("next_try_at", Float, nullable=False),
    Column("created_at", Float, nullable=False, index=True),
    Column("changed_at", Float, nullable=False),
)
