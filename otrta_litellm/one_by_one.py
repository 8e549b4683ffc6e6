"""What all workers together may have out is counted by one of them at a time."""

import zlib

from sqlalchemy import Connection, func, select


def one_by_one(conn: Connection, what: str) -> None:
    """Wait until no other transaction counts the same, and keep others waiting until this one has ended.

    So what was counted holds when it is added to. SQLite lets one transaction write at a time anyway. To be
    called behind everything in the transaction that can wait for another: then nobody waits in a circle.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(zlib.crc32(f"otrta {what}".encode()))))
