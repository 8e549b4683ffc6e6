"""Somebody to be paid: Lightning invoices made here, and a service that gives them by LNURL-pay."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_bytes
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from coincurve import PrivateKey

from otrta_core.invoice import _ALPHABET, _checksum

METADATA = json.dumps([["text/plain", "earnings of otrta"], ["text/identifier", "me@127.0.0.1"]])


def invoice(amount_msat: int, description_hash: bytes | None = None) -> str:
    """A BOLT 11 invoice of whole msat, signed with a key of its own."""
    prefix = f"lnbc{amount_msat * 10}p"
    committed = sha256(b"nothing").digest() if description_hash is None else description_hash
    fields = _field("p", token_bytes(32)) + _field("s", token_bytes(32)) + _field("h", committed)
    words = [int(time.time()) >> 5 * n & 31 for n in range(6, -1, -1)] + fields
    signed = sha256(prefix.encode() + _padded(words)).digest()
    signature = PrivateKey().sign_recoverable(signed, hasher=None)
    data = "".join(_ALPHABET[word] for word in words + _five_bits(signature))
    left = _checksum(prefix, f"{data}qqqqqq") ^ 1
    return f"{prefix}1{data}" + "".join(_ALPHABET[left >> 5 * (5 - at) & 31] for at in range(6))


def _field(kind: str, data: bytes) -> list[int]:
    words = _five_bits(data)
    return [_ALPHABET.index(kind), len(words) >> 5, len(words) & 31, *words]


def _five_bits(data: bytes) -> list[int]:
    bits = "".join(f"{byte:08b}" for byte in data)
    return [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]


def _padded(words: list[int]) -> bytes:
    bits = "".join(f"{word:05b}" for word in words)
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


@dataclass
class Payee:
    """A service on this machine that takes payments by LNURL-pay.

    Attributes:
        told: what it answers to the first question, changed by tests.
        answer: what it answers to the second one, instead of a good invoice.
        raw: status, headers and body that it answers with to anything.
        asked: the amounts that it was asked for.
    """

    port: int
    told: dict[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = None
    raw: tuple[int, dict[str, str], bytes] | None = None
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.good()

    @property
    def address(self) -> str:
        """Its Lightning address."""
        return f"me@127.0.0.1:{self.port}"

    def good(self) -> None:
        """Answer as it should."""
        self.told = {
            "tag": "payRequest",
            "callback": f"http://127.0.0.1:{self.port}/pay?x=1",
            "minSendable": 1000,
            "maxSendable": 10**12,
            "metadata": METADATA,
        }
        self.answer = self.raw = None
        self.asked = []

    def reply(self, path: str) -> Mapping[str, Any]:
        """Answer a question."""
        parts = urlsplit(path)
        if parts.path == "/.well-known/lnurlp/me":
            return self.told
        query = parse_qs(parts.query)
        assert query["x"] == ["1"]
        amount = int(query["amount"][0])
        self.asked.append(amount)
        metadata = str(self.told["metadata"])
        good = {"pr": invoice(amount, sha256(metadata.encode()).digest()), "routes": []}
        return good if self.answer is None else self.answer


@contextmanager
def payee() -> Iterator[Payee]:
    """A payee that listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = found.raw or (200, {}, json.dumps(found.reply(self.path)).encode())
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Payee(server.server_address[1])
    thread = Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
