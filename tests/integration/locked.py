"""Secrets that are locked to keys, well formed and not."""

import json
import secrets
from collections.abc import Callable


def locked(key: str, *tags: list[str]) -> Callable[[], str]:
    """Return what makes fresh secrets that are locked to a key (NUT-11)."""

    def make() -> str:
        fields = {"nonce": secrets.token_hex(16), "data": key, "tags": list(tags)}
        return json.dumps(["P2PK", fields], separators=(",", ":"))

    return make
