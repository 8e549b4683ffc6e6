"""A proxy on a real socket that spoils the next request that it is told to, and passes on the rest.

It stands between a wallet and its mint, or a client and its gateway, so it speaks just that much HTTP/1.1:
one request on each connection, bodies with a length.
"""

import http.client
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

LOCKED = (400, b'{"detail": "database is locked", "code": 0}')
NOT_THESE = (400, b'{"detail": "the mint does not want these", "code": 11000}')
_HELD_S = 0.9
_OWN_HEADERS = frozenset({"connection", "content-length", "date", "host", "server", "transfer-encoding"})


@dataclass(frozen=True)
class Fault:
    """What becomes of a request.

    Attributes:
        name: for the test's name.
        forwards: how often the mint gets it.
        late_s: how long after its sender was dropped the mint gets it.
        answer: status and body that are sent instead of the mint's; None sends the mint's last answer.
        keeps: how much of the answer's body is sent before the connection is cut, as a fraction;
            None sends nothing at all and cuts.
        silent_s: how long the answer is held back.
        twist: changes the mint's body, as a mint that lies would.
    """

    name: str
    forwards: int = 1
    late_s: float = 0.0
    answer: tuple[int, bytes] | None = None
    keeps: float | None = 1.0
    silent_s: float = 0.0
    twist: Callable[[bytes], bytes] = bytes

    def __str__(self) -> str:
        return self.name


FAULTS = (
    Fault("request-dropped", forwards=0, keeps=None),
    Fault("reply-dropped", keeps=None),
    Fault("reply-after-the-timeout", silent_s=_HELD_S),
    Fault("lands-after-the-reply-was-given-up", late_s=_HELD_S, keeps=None),
    Fault("sent-twice", forwards=2),
    Fault("sent-twice-reply-dropped", forwards=2, keeps=None),
    Fault("cut-in-the-body", keeps=0.5),
    Fault("400-after-the-commit", answer=LOCKED),
    Fault("400-before-it", forwards=0, answer=LOCKED),
    Fault("429-after-the-commit", answer=(429, b'{"detail": "Rate limit exceeded."}')),
    Fault("429-before-it", forwards=0, answer=(429, b'{"detail": "Rate limit exceeded."}')),
    Fault("408-after-the-commit", answer=(408, b"")),
    Fault("500-after-the-commit", answer=(500, b"Internal Server Error")),
    Fault("502-after-the-commit", answer=(502, b"<html>Bad Gateway</html>")),
    Fault("502-before-it", forwards=0, answer=(502, b"<html>Bad Gateway</html>")),
    Fault("200-with-nonsense-after-the-commit", answer=(200, b'{"signatures": []}')),
)


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


class Answer(NamedTuple):
    """An answer to be passed on."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class FaultProxy:
    """Passes requests on to a port of this machine, save those that ``spoil`` armed a fault for.

    Where it ``keeps_answers``, an identical POST gets the first good answer again, as NUT-19 has it.
    """

    upstream_port: int
    url: str = ""
    keeps_answers: bool = False
    seen: list[Seen] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    met_one: threading.Event = field(default_factory=threading.Event)
    _armed: list[tuple[re.Pattern[str], Fault]] = field(default_factory=list)
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _under_way: int = 0
    _kept: dict[tuple[str, bytes], Answer] = field(default_factory=dict)

    def spoil(self, path: str, *faults: Fault) -> None:
        """Arm one fault for each of the next requests whose path matches."""
        with self._lock:
            self._armed += [(re.compile(path), fault) for fault in faults]

    def wait_until_landed(self) -> None:
        """Return when no request is still to land."""
        with self._lock:
            assert self._lock.wait_for(lambda: self._under_way == 0, timeout=30), "something never landed"

    def reset(self) -> None:
        """Wait for requests that are still to land, and forget all that was."""
        self.wait_until_landed()
        with self._lock:
            for told in (self.seen, self.met, self._armed, self._kept):
                told.clear()
            self.keeps_answers = False
            self.met_one.clear()

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Count a request as under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()

    def take(self, seen: Seen) -> Fault:
        """Note a request and return the fault that was armed for it."""
        with self._lock:
            self.seen.append(seen)
            for index, (pattern, fault) in enumerate(self._armed):
                if pattern.search(seen.path):
                    del self._armed[index]
                    self.met.append(fault)
                    self.met_one.set()
                    return fault
        return Fault("none")

    def forward(self, seen: Seen) -> Answer:
        """Have the mint answer a request, or repeat its answer."""
        asked = seen.path, seen.body
        if self.keeps_answers and asked in self._kept:
            return self._kept[asked]
        answer = self._ask(seen)
        if self.keeps_answers and seen.method == "POST" and answer[0] == 200:
            self._kept[asked] = answer
        return answer

    def _ask(self, seen: Seen) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=30)
        try:
            connection.request(seen.method, seen.path, seen.body, dict(seen.headers))
            reply = connection.getresponse()
            return Answer(reply.status, reply.read(), _passed_on(reply.getheaders()))
        finally:
            connection.close()


def _passed_on(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers if name.lower() not in _OWN_HEADERS)


@contextmanager
def fault_proxy(upstream_port: int) -> Iterator[FaultProxy]:
    """Run a proxy; its threads have ended when this does."""
    proxy = FaultProxy(upstream_port)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle_any(self) -> None:
            with proxy.handling():
                self.pass_on()

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen = Seen(self.command, self.path, body, _passed_on(self.headers.items()))
            fault = proxy.take(seen)
            self.close_connection = True
            if fault.late_s:
                self.connection.shutdown(2)
                time.sleep(fault.late_s)
            answer = Answer(503, b"")
            for _ in range(fault.forwards):
                try:
                    answer = proxy.forward(seen)
                except (http.client.HTTPException, ConnectionError):
                    return  # what is behind has hung up, and so does this
            time.sleep(fault.silent_s)
            if fault.keeps is None:
                return
            if fault.answer is not None:
                answer = Answer(*fault.answer)
            data = answer.body if fault.answer else fault.twist(answer.body)
            rows = [*answer.headers, ("Content-Length", str(len(data))), ("Connection", "close")]
            head = f"HTTP/1.1 {answer.status} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in rows)
            try:
                self.wfile.write(f"{head}\r\n".encode("latin-1") + data[: int(len(data) * fault.keeps)])
            except OSError:
                return  # the wallet has stopped waiting

        do_GET = do_POST = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False  # closing waits for requests that land late
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
