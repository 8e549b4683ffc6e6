"""The tables of the wallet. Amounts are in the row's own unit; times are unix seconds."""

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
    UniqueConstraint,
    false,
    text,
)

LOCAL = "local"
"""The owner of what a process does that has its database for itself."""

metadata = MetaData()


class ProofStatus(StrEnum):
    """Where a proof that this wallet knows is."""

    AVAILABLE = "available"  # ours alone, can be spent
    INCOMING = "incoming"  # somebody else knows it too: to be swapped before it is spent
    RESERVED = "reserved"  # input of an open operation
    HELD = "held"  # made for one purpose, named by holder
    SENT = "sent"  # handed out in a transfer
    UNSETTLED = "unsettled"  # restored from the seed while the mint called it pending: recovery asks again
    SPENT = "spent"


mints = Table(
    "mints",
    metadata,
    Column("url", String, primary_key=True),
    Column("name", String),
    Column("added_at", Float, nullable=False),
)

keysets = Table(
    "keysets",
    metadata,
    Column("id", String, primary_key=True),
    Column("mint", String, nullable=False, index=True),
    Column("unit", String, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("input_fee_ppk", BigInteger, nullable=False),
    Column("final_expiry", BigInteger),
    Column("keys", Text, nullable=False),  # JSON object: amount to key
    Column("counter", BigInteger, nullable=False, default=0),  # the next unused one (NUT-13)
)

operations = Table(
    "operations",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("owner", String, nullable=False, default=LOCAL),  # the worker that carries it out
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", BigInteger, nullable=False),  # what comes out: inputs less fee, or the quote's amount
    Column("fee", BigInteger, nullable=False),
    Column("quote_id", String),
    Column("reference", String, index=True),  # of whoever asked for it
    Column("error", Text),
    Column("watch_until", Float),  # a failed one whose post may still land is looked at until then
    Column("next_look_at", Float, nullable=False, default=0.0),
    Column("pruned", Boolean, nullable=False, default=False, server_default=false()),  # without its parts
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("due_at", Float),  # when a locked token should be swapped at the latest
    Index("operations_by_age", "pruned", "state", "changed_at"),
)

proofs = Table(
    "proofs",
    metadata,
    Column("y", String, primary_key=True),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("keyset_id", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("secret", Text, nullable=False),
    Column("c", String, nullable=False),
    Column("dleq_e", String),
    Column("dleq_s", String),
    Column("dleq_r", String),
    Column("witness", Text),
    Column("p2pk_e", String),  # the ephemeral key of one that is locked to a blinded key (NUT-28)
    Column("status", String, nullable=False),
    Column("holder", String, index=True),  # operation, transfer or reference that owns it now
    Column("changed_at", Float, nullable=False),
    Index("proofs_spendable", "status", "mint", "unit", "amount", "keyset_id", "y"),
    Index("proofs_by_age", "status", "changed_at"),
)

operation_inputs = Table(
    "operation_inputs",
    metadata,
    Column("operation_id", String, ForeignKey("operations.id"), primary_key=True),
    Column("y", String, primary_key=True, index=True),
    Column("came_from", String),  # the holder of a proof that we had handed out, and that came back
)

batch_members = Table(
    "batch_members",
    metadata,
    Column("batch_id", String, ForeignKey("operations.id"), primary_key=True),
    Column("operation_id", String, ForeignKey("operations.id"), primary_key=True, index=True),
)

outputs = Table(
    "outputs",
    metadata,
    Column("operation_id", String, ForeignKey("operations.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("keyset_id", String, nullable=False),
    Column("counter", BigInteger),  # none where secret and r are given
    Column("amount", BigInteger, nullable=False),  # 0 for a blank that is not signed
    Column("blinded", String, nullable=False),  # B_
    Column("holder", String),  # the proof is held for this purpose when it is made
    Column("secret", Text),  # one that states a lock
    Column("r", String),  # the blinding factor of such a secret
    UniqueConstraint("keyset_id", "counter"),
    Index(
        "outputs_given",
        "secret",
        sqlite_where=text("secret IS NOT NULL"),
        postgresql_where=text("secret IS NOT NULL"),
    ),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", String, primary_key=True),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", String, nullable=False, index=True),  # open, minting, issued, lost, expired
    Column("expiry", BigInteger),
    Column("created_at", Float, nullable=False),
    Column("next_look_at", Float, nullable=False, default=0.0),
)

melt_quotes = Table(
    "melt_quotes",
    metadata,
    Column("id", String, primary_key=True),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("fee_reserve", BigInteger, nullable=False),
    Column("request", Text, nullable=False, index=True),  # the invoice, in lower case
    Column("state", String, nullable=False, index=True),  # open, paying, paid, expired
    Column("expiry", BigInteger),
    Column("created_at", Float, nullable=False),
    Column("preimage", String),
    Column("owed", BigInteger, nullable=False),  # change that is due and was not signed yet
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", String, primary_key=True),
    Column("mint", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("token", Text),  # erased once nobody can spend it any more
    Column("state", String, nullable=False, index=True),  # making, open, reclaiming, claimed, reclaimed
    Column("memo", Text),  # of one that is being made
    Column("with_dleq", Boolean, nullable=False, default=False),  # likewise
    Column("reference", String, index=True),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("next_look_at", Float, nullable=False, default=0.0),
)

history = Table(
    "history",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("amount_msat", BigInteger, nullable=False),
    Column("fee_msat", BigInteger, nullable=False),
    Column("mint", String),
    Column("state", String, nullable=False),
    Column("reference", String),
)

lock_keys = Table(
    "lock_keys",
    metadata,
    Column("public", String, primary_key=True),  # compressed, hex
    Column("private", String, nullable=False),  # kept, since recovery must be able to sign
    Column("added_at", Float, nullable=False),
)

scans = Table(
    "scans",
    metadata,
    Column("keyset_id", String, ForeignKey("keysets.id"), primary_key=True),
    Column("mint", String, nullable=False, index=True),
    Column("unit", String, nullable=False),
    Column("next_counter", BigInteger, nullable=False),  # all below have been asked for (NUT-09)
    Column("empty_batches", Integer, nullable=False),  # in a row
    Column("stop_after", Integer, nullable=False),  # so many of them
    Column("found", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("proofs", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("changed_at", Float, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String, primary_key=True),
    Column("renewed_at", Float, nullable=False),  # by the database's clock
)
