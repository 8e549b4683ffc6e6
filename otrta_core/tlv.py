"""Sequences of type, length, value: one byte of type, a big-endian length, the value (NUT-26, NIP-19)."""

from collections.abc import Iterable

Field = tuple[int, bytes]


def read(data: bytes, *, length_bytes: int, max_fields: int) -> list[Field]:
    """Return the fields in their order.

    Args:
        data: exactly one sequence.
        length_bytes: how many bytes a length has.
        max_fields: most fields that are read, those of unknown type among them.

    Raises:
        ValueError: a field reaches past the end, or there are too many.
    """
    fields: list[Field] = []
    at = 0
    while at < len(data):
        start = at + 1 + length_bytes
        end = start + int.from_bytes(data[at + 1 : start], "big")
        if end > len(data):
            raise ValueError("a truncated field")
        if len(fields) == max_fields:
            raise ValueError(f"more than {max_fields} fields")
        fields.append((data[at], data[start:end]))
        at = end
    return fields


def write(fields: Iterable[Field], *, length_bytes: int) -> bytes:
    """Write the fields in their order.

    Raises:
        ValueError: a value is longer than its length can say.
    """
    parts = []
    for kind, value in fields:
        if len(value) >= 1 << 8 * length_bytes:
            raise ValueError(f"a value of more than {(1 << 8 * length_bytes) - 1} bytes")
        parts += [bytes([kind]), len(value).to_bytes(length_bytes, "big"), value]
    return b"".join(parts)
