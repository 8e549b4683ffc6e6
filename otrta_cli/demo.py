"""`otrta demo`: mint, gateway and client on this machine, and two LLM calls paid with e-cash."""

import importlib.util
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import click

from otrta_cli import demo_calls, processes
from otrta_cli.demo_calls import DemoFailed
from otrta_cli.demo_report import BalanceSheet, PaidCall
from otrta_cli.processes import CommandFailed, Running, StartError

TOP_UP: Final = "100sat"

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_S: Final = 0.5
_NEEDED: Final = ("litellm", "openai", "trio", "hypercorn", "starlette")


@dataclass
class Demo:
    """A demo that runs: where it lives, and the parts that were started.

    Attributes:
        home: Its directory.
        ports: The port of each part.
        mint_python: The interpreter of the mint's environment.
        parts: The parts, in the order in which they were started.
    """

    home: Path
    ports: dict[str, int]
    mint_python: Path
    parts: list[Running] = field(default_factory=list)

    @property
    def client_home(self) -> Path:
        """The OTRTA_HOME of the client."""
        return self.home / "client"

    @property
    def gateway_store(self) -> Path:
        """The gateway's store."""
        return self.home / "gateway"

    @property
    def urls(self) -> dict[str, str]:
        """Where the parts are that a user may talk to."""
        return {name: f"http://{processes.HOST}:{self.ports[name]}" for name in ("mint", "gateway", "client")}

    def log(self, name: str) -> Path:
        """The log of a part."""
        return self.home / "logs" / f"{name}.log"

    def stop(self) -> None:
        """Stop all parts, the last one first; another signal does not interrupt this."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        while self.parts:
            self.parts.pop().stop()


class Progress:
    """Tells a person what happens: on stdout, or on stderr where stdout is for a program."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=as_json, highlight=False, markup=False)

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[list[str]]:
        """Show what is being done, then that it is done, with what the body appended to the list."""
        notes: list[str] = []
        began = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f"{doing} …"):
                yield notes
        else:
            yield notes
        self._console.print(f"{time.monotonic() - began:6.1f} s  ", style="dim", end="", soft_wrap=True)
        self._console.print(f"{done:<16} {' '.join(notes)}".rstrip(), soft_wrap=True)

    def say(self, text: str = "") -> None:
        """Print a text as it is."""
        self._console.print(text, soft_wrap=True)


def start_parts(demo: Demo, progress: Progress) -> None:
    """Start everything, and top the wallet up while LiteLLM is on its way.

    Raises:
        StartError: A part does not start.
        CommandFailed: The wallet could not be set up.
    """
    with progress.step("starting the mint", "mint") as notes:
        mint = processes.start_mint(
            demo.home / "mint", demo.ports["mint"], python=demo.mint_python, log=demo.log("mint"), wait=False
        )
        demo.parts.append(mint)
        upstream = processes.start_upstream(demo.ports["upstream"], log=demo.log("upstream"), wait=False)
        demo.parts.append(upstream)
        mint.wait_ready()
        notes.append(mint.url)
    with progress.step("starting the upstream", "LLM upstream") as notes:
        upstream.wait_ready()
        notes.append(upstream.url)
    gateway = processes.start_gateway(
        demo.gateway_store,
        demo.ports["gateway"],
        config=processes.config_dir() / "litellm.yaml",
        upstream_url=upstream.url,
        mints=mint.url,
        log=demo.log("gateway"),
        wait=False,
    )
    demo.parts.append(gateway)
    with progress.step("starting the client", "client") as notes:
        client = processes.start_client(
            demo.client_home, demo.ports["client"], log=demo.log("client"), wait=False
        )
        demo.parts.append(client)
        client.wait_ready()
        notes.append(f"{client.url}/v1")
    with progress.step("introducing the mint", "mint added") as notes:
        processes.run_otrta(demo.client_home, "mints", "add", mint.url)
        notes.append(f"otrta mints add {mint.url}")
    with progress.step("topping the wallet up", "wallet topped up") as notes:
        processes.run_otrta(demo.client_home, "invoice", TOP_UP, "--json")
        notes.append(f"otrta invoice {TOP_UP}, paid over Lightning")
    with progress.step("starting LiteLLM, which takes 10 s and more", "gateway") as notes:
        gateway.wait_ready()
        notes.append(gateway.url)
    with progress.step("introducing the gateway", "gateway added") as notes:
        processes.run_otrta(demo.client_home, "gateways", "add", gateway.url)
        notes.append(f"otrta gateways add {gateway.url}")


def make_calls(demo: Demo, progress: Progress) -> BalanceSheet:
    """Make both calls, wait until the money has settled, and return who has what.

    Raises:
        DemoFailed: A call failed, or money is still under way.
        CommandFailed: The wallet could not be read.
    """
    with progress.step("reading the books", "books read"):
        books_before = demo_calls.gateway_books(demo.gateway_store)
        wallet_before_msat = demo_calls.wait_until_settled(demo.client_home)
        sdk = demo_calls.openai_client(demo.urls["client"])
    with sdk:
        with progress.step("calling", "plain call") as notes:
            plain = demo_calls.plain_call(sdk)
            notes.append(_told(plain.call, plain.text))
        with progress.step("calling", "streamed call") as notes:
            streamed = demo_calls.streamed_call(sdk, demo.client_home)
            notes.append(_told(streamed.call, streamed.text))
    calls = (plain.call, streamed.call)
    with progress.step("waiting for the money to settle", "settled"):
        wallet_after_msat = demo_calls.wait_until_settled(demo.client_home)
        cost_msat = sum(call.cost_msat for call in calls)
        gain = demo_calls.gateway_gain(demo.gateway_store, books_before, cost_msat)
    return BalanceSheet(calls, wallet_before_msat, wallet_after_msat, gain.earned_msat, gain.held_msat)


def how_to_go_on(demo: Demo) -> str:
    """What can be done with a demo that was left running."""
    body = json.dumps({"model": demo_calls.MODEL, "messages": [{"role": "user", "content": "hi"}]})
    call = f"/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    return "\n".join(
        [
            *(f"  {name:<8} {url}" for name, url in demo.urls.items()),
            f"  upstream http://{processes.HOST}:{demo.ports['upstream']}",
            f"  home     {demo.home}  (logs in {demo.home / 'logs'})",
            "",
            "A paid call, through the client:",
            f"  curl -s {demo.urls['client']}{call}",
            "The same without e-cash, at the gateway: 402 and what to pay:",
            f"  curl -i {demo.urls['gateway']}{call}",
            "The wallet:",
            f"  OTRTA_HOME={demo.client_home} otrta balance",
            "",
            "All of it runs until Ctrl-C.",
        ]
    )


def check_machine(ports: dict[str, int]) -> None:
    """Find out before anything starts whether this machine can run the demo.

    Raises:
        StartError: A library is not installed, or a port is taken.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise StartError(
            f"the demo needs {', '.join(missing)}, not installed here: pip install 'otrta[gateway,client]'"
        )
    for name, port in ports.items():
        if processes.port_taken(port):
            raise StartError(
                f"port {port} of {processes.HOST}, where the {name} would listen, is taken: "
                f"free it, or choose another with --{name}-port"
            )


@contextmanager
def interruptible() -> Iterator[None]:
    """Let every signal that asks this program to end raise KeyboardInterrupt, even one that was ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = [(number, signal.signal(number, interrupt)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in handlers:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def watch(demo: Demo) -> None:
    """Wait for Ctrl-C; say so when a part ends meanwhile."""
    running = list(demo.parts)
    try:
        while True:
            time.sleep(_WATCH_S)
            for part in [each for each in running if not each.alive]:
                running.remove(part)
                click.echo(f"The {part.name} has ended; its log is {part.log}", err=True)
    except KeyboardInterrupt:
        click.echo(err=True)


def _told(call: PaidCall, text: str) -> str:
    shown = text if len(text) <= 32 else f"{text[:31]}…"
    return (
        f'"{shown}"  paid {call.paid_msat}, cost {call.cost_msat}, fee {call.fee_msat}, '
        f"change {call.change_msat} msat"
    )


def _port_option(name: str, default: int) -> Callable[[_Command], _Command]:
    return click.option(
        f"--{name}-port",
        type=click.IntRange(1, 65535),
        default=default,
        show_default=True,
        help=f"Where the {name} listens.",
    )


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the balance sheet as one JSON object.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep wallets, databases and logs in this directory instead of a temporary one.",
)
@_port_option("mint", 3338)
@_port_option("gateway", 4000)
@_port_option("client", 8402)
@_port_option("upstream", 4010)
@click.option("--mint-python", help="The interpreter of the mint's own environment.")
def demo(
    keep: bool,
    as_json: bool,
    home: Path | None,
    mint_port: int,
    gateway_port: int,
    client_port: int,
    upstream_port: int,
    mint_python: str | None,
) -> None:
    """Run mint, gateway and client on this machine and pay for two LLM calls.

    One call is plain and one streamed, both by the official OpenAI SDK. At the end stands a balance sheet;
    the exit code is 0 if it adds up to the msat. Everything listens on 127.0.0.1 only, and needs no internet.
    """
    ports = {"mint": mint_port, "gateway": gateway_port, "client": client_port, "upstream": upstream_port}
    if len(set(ports.values())) < len(ports):
        raise click.UsageError("mint, gateway, client and upstream need four different ports.")
    try:
        check_machine(ports)
        python = processes.mint_python(mint_python)
    except StartError as failure:
        raise click.ClickException(str(failure)) from failure
    with interruptible():
        adds_up = _run(Demo(_make_home(home), ports, python), keep, as_json, home is None)
    if not adds_up:
        sys.exit(1)


def _make_home(home: Path | None) -> Path:
    if home is None:
        return Path(tempfile.mkdtemp(prefix="otrta-demo-")).resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise click.ClickException(f"cannot make {home}: {failure.strerror}") from failure
    return home.resolve()


def _run(demo: Demo, keep: bool, as_json: bool, temporary: bool) -> bool:
    """Run it all and say how it went; returns whether the balance sheet adds up."""
    progress = Progress(as_json)
    remove_home = temporary and not keep
    try:
        start_parts(demo, progress)
        sheet = make_calls(demo, progress)
        remove_home = remove_home and not sheet.wrong
        if as_json:
            click.echo(json.dumps(sheet.as_json(demo.urls, str(demo.home))))
        else:
            progress.say(f"\n{sheet.text}\n")
        for check in sheet.wrong:
            click.echo(f"otrta: the balance sheet does not add up:\n{check.line}", err=True)
        if keep:
            progress.say(how_to_go_on(demo))
            watch(demo)
        return not sheet.wrong
    except (StartError, CommandFailed, DemoFailed) as failure:
        remove_home = False
        raise click.ClickException(str(failure)) from failure
    except Exception:
        remove_home = False
        raise
    finally:
        demo.stop()
        if remove_home:
            shutil.rmtree(demo.home, ignore_errors=True)
        else:
            click.echo(f"The demo's files are in {demo.home}, its logs in {demo.home / 'logs'}", err=True)
