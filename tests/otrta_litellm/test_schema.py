"""The migrations make the tables that the code expects."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, event, insert

from otrta_litellm import change, payments
from otrta_litellm.schema import PaymentState, metadata, payment_proofs
from otrta_litellm.schema import payments as payments_table
from tests.otrta_litellm.samples import MINT


def test_the_migrations_end_at_the_schema(engine: Engine) -> None:
    ours = set(metadata.tables)
    with engine.begin() as conn:
        options = {"include_name": lambda name, kind, _: kind != "table" or name in ours}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, metadata) == []


def test_upkeep_does_not_read_every_payment(engine: Engine) -> None:
    plans: list[str] = []
    postgres = engine.dialect.name == "postgresql"
    explain_of = "explain" if postgres else "explain query plan"

    def explain(conn: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            cursor = conn.connection.cursor()
            cursor.execute(f"{explain_of} {statement}", parameters)
            plans.extend(line for row in cursor.fetchall() if "payment" in (line := str(row[-1])))

    with engine.begin() as conn:
        fill(conn)
    with engine.begin() as conn:
        event.listen(engine, "before_cursor_execute", explain)
        payments.ours_with_change_due(conn, 1.0, ["x"])
        payments.ours_in_state(conn, 1.0, PaymentState.REDEEMED, ["x"])
        payments.take_over(conn, 1.0)
        payments.begin_life(conn, 1.0)
        payments.take_claims_to_check(conn, 1.0)
        payments.claims_on(conn, ["a"])
        payments.claim_size(conn, "p")
        change.free_what_nobody_is_owed(conn, 1.0)
    assert len(plans) >= 8
    assert [plan for plan in plans if ("Seq Scan" if postgres else "SCAN") in plan] == []


def fill(conn: Connection) -> None:
    """Let there be many payments that are over, so that reading them all would be dear."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"over-{n}",
            "state": PaymentState.CLAIMED if n % 2 else PaymentState.SETTLED,
            "mint": MINT,
            "unit": "msat",
            "paid_msat": 1,
            "fee_msat": 0,
            "change_due": False,
            "claim_look_at": 1e9 if n % 100 == 0 else None,
            "path": "/v1/chat/completions",
            "model": "demo-chat",
            "price": "{}",
            "call": "{}",
            "owner": "local",
            "lease": 0,
            "created_at": 1.0,
            "changed_at": 1.0,
        }
        for n in range(5_000)
    ]
    conn.execute(insert(payments_table), rows)
    conn.execute(
        insert(payment_proofs), [{"y": f"y-{n}", "payment_id": f"over-{n // 2}"} for n in range(10_000)]
    )
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("analyze payments")
        conn.exec_driver_sql("analyze payment_proofs")
