"""The gateway's tables, in the same database as its wallet's."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

VERSION_TABLE = "gateway_version"
"""Where the version of these tables stands."""

metadata = MetaData()


class PaymentState(StrEnum):
    """Where a payment is; the transitions are in ``otrta_litellm.payments``."""

    RECEIVED = "received"
    REDEEMING = "redeeming"
    REDEEMED = "redeemed"
    SETTLED = "settled"
    CLAIMED = "claimed"
    REJECTED = "rejected"


payments = Table(
    "payments",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("memo_hash", String),
    Column("paid_msat", BigInteger, nullable=False),
    Column("fee_msat", BigInteger, nullable=False),
    Column("cost_msat", BigInteger),  # what is charged
    Column("change_msat", BigInteger),
    Column("excess_msat", BigInteger),  # what the call cost beyond the payment
    Column("at_risk_msat", BigInteger, index=True),  # of a call that runs before its payment is certain
    Column("change_token", Text),  # erased once the change is spent
    Column("change_due", Boolean, nullable=False),  # change is owed and not yet made
    Column("claim_look_at", Float, index=True),  # when its mint is next asked whether the change is spent
    Column("path", String, nullable=False),
    Column("model", String, nullable=False),
    Column("price", Text, nullable=False),  # JSON, fixed when the payment was received
    Column("call", Text, nullable=False),  # JSON: its kind and its figures, for whoever settles it
    Column("live_tokens", BigInteger),  # output counted so far of a live stream
    Column("outcome", String),
    Column("owner", String, nullable=False),  # the worker that runs the call, or ends it
    Column("lease", Integer, nullable=False),  # how often it has changed hands
    Column("created_at", Float, nullable=False, index=True),
    Column("changed_at", Float, nullable=False),
    Index("payments_by_state", "state", "owner"),
    Index("payments_owed", "change_due", "owner"),
)

payment_proofs = Table(
    "payment_proofs",
    metadata,
    Column("y", String, primary_key=True),
    Column("payment_id", String, ForeignKey("payments.id"), nullable=False, index=True),
)

losses = Table(
    "losses",
    metadata,
    Column("operation_id", String, primary_key=True),
    Column("payment_id", String),
    Column("mint", String, nullable=False, index=True),
    Column("amount_msat", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_good", Boolean, nullable=False),  # redeemed after all
    Column("created_at", Float, nullable=False),
)

price_tables = Table(
    "price_tables",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("source", String, nullable=False),  # what the prices were made of
    Column("prices", Text, nullable=False),  # JSON: price by model
    Column("msat_per_usd", String),  # decimal, where they were made of USD prices
    Column("hash", String, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("prices_until", Float, nullable=False, index=True),
)

btc_rate = Table(
    "btc_rate",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # there is one row
    Column("usd", String),  # decimals, in USD for one bitcoin
    Column("at", Float),
    Column("doubted_usd", String),
    Column("doubted_at", Float),
    Column("seen", Integer, nullable=False),
    Column("polled_at", Float, nullable=False),  # when a worker last took it on itself to ask the feeds
)

turns = Table(
    "turns",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String),  # the worker that is at it
    Column("begun_at", Float, nullable=False),
)

payouts = Table(
    "payouts",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False, index=True),
    Column("slot", String, unique=True),  # its mint, while an automatic one is open
    Column("kind", String, nullable=False),  # bolt11, lnurl, token
    Column("destination", Text, nullable=False),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount_msat", BigInteger, nullable=False),
    Column("fee_msat", BigInteger, nullable=False),  # at most; once it is paid, in fact
    Column("quote_id", String),  # the wallet's, of the mint's offer or of the transfer
    Column("automatic", Boolean, nullable=False),
    Column("error", Text),
    Column("created_at", Float, nullable=False, index=True),
    Column("changed_at", Float, nullable=False),
)

opened_locks = Table(
    "opened_locks",
    metadata,
    Column("y", String, primary_key=True),  # of a proof whose lock was opened before it had paid
)

markers = Table(
    "markers",
    metadata,
    Column("place", String, primary_key=True),  # of a file that counts along
    Column("number", BigInteger, nullable=False),
    Column("identity", String, nullable=False),  # of the store, when it was last started with that file
    Column("seen_at", Float, nullable=False),
)
