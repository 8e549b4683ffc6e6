"""The client's tables, in the same database as its wallet's."""

from enum import StrEnum

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()


class CallState(StrEnum):
    """Where the payment of a call is; the transitions are in ``proxy_trio.calls``."""

    IN_FLIGHT = "in_flight"
    AWAITING_CHANGE = "awaiting_change"
    DISPUTED = "disputed"
    DONE = "done"
    REFUNDED = "refunded"
    LOST = "lost"


class ApprovalState(StrEnum):
    """What the user said to a call that may cost much; the rules are in ``proxy_trio.approvals``."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"


gateways = Table(
    "gateways",
    metadata,
    Column("url", String, primary_key=True),
    Column("name", String),
    Column("kind", String),  # how it sells, once it has said so
    Column("distrusted_for", Text),  # why it is not paid any more
    Column("locks", Boolean, nullable=False, default=False),  # whether it is paid with locked tokens
    Column("added_at", Float, nullable=False),
)

ways = Table(
    "ways",
    metadata,
    Column("url", String, primary_key=True),  # of a gateway or a mint, without its path
    Column("proxy", Text, nullable=False),  # its URL, or "direct"
)

calls = Table(
    "calls",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False, index=True),
    Column("key_id", String),  # of the app's key; none where it gave none
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
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    # budgets are summed up from these alone, at each call
    Index("ix_calls_spent", "created_at", "state", "paid_msat", "change_msat"),
    Index("ix_calls_spent_by_key", "key_id", "created_at", "state", "paid_msat", "change_msat"),
)

app_keys = Table(
    "app_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("prefix", String, nullable=False),  # what is shown of it
    Column("hash", String, nullable=False, unique=True),  # SHA-256 of the whole key, in hex
    Column("per_request_msat", BigInteger),  # none: no limit but those for all calls
    Column("per_hour_msat", BigInteger),
    Column("per_day_msat", BigInteger),
    Column("per_month_msat", BigInteger),
    Column("total_msat", BigInteger),
    Column("models", Text),  # a JSON list; none: any
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("removed_at", Float),  # the row stays, for the names in the history
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False, index=True),
    Column("key_id", String),
    Column("model", String, nullable=False),
    Column("gateway", String, nullable=False),
    Column("amount_msat", BigInteger, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("decided_at", Float),
    Column("call_id", String),  # the payment that it was used for
)

moves = Table(
    "moves",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False, index=True),
    Column("from_mint", String, nullable=False),
    Column("from_unit", String, nullable=False),
    Column("to_mint", String, nullable=False),
    Column("to_unit", String, nullable=False),
    Column("amount_msat", BigInteger, nullable=False),  # what arrives
    Column("most_fee_msat", BigInteger, nullable=False),  # what it may cost, as the mints said
    Column("fee_msat", BigInteger),  # what it did cost
    Column("mint_quote_id", String, nullable=False, index=True),
    Column("melt_quote_id", String, nullable=False),
    Column("reason", Text),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)
