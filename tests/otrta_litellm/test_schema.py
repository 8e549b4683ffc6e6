"""The migrations make the tables that the code expects."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, event

from otrta_litellm import payments
from otrta_litellm.schema import PaymentState, metadata


def test_the_migrations_end_at_the_schema(engine: Engine) -> None:
    ours = set(metadata.tables)
    with engine.begin() as conn:
        options = {"include_name": lambda name, kind, _: kind != "table" or name in ours}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, metadata) == []


def test_upkeep_does_not_read_every_payment(engine: Engine) -> None:
    plans: list[str] = []

    def explain(conn: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            rows = conn.connection.cursor().execute(f"explain query plan {statement}", parameters)
            plans.extend(row[3] for row in rows if "payment" in row[3])

    event.listen(engine, "before_cursor_execute", explain)
    with engine.begin() as conn:
        payments.with_change_due(conn)
        payments.with_change_out(conn, 5)
        payments.in_state(conn, PaymentState.REDEEMED)
        payments.claims_on(conn, ["a"])
        payments.claim_size(conn, "p")
    assert len(plans) == 5
    assert [plan for plan in plans if "INDEX" not in plan] == []
