"""What all tests share: how many examples hypothesis tries, and no way out to the network."""

import errno
import ipaddress
import os
import socket
import sys
from typing import Any

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.long_summary", "tests.parts", "tests.postgres"]

# The sample is the same in every run, so that only a change makes it fail; long runs look for the rest.
settings.register_profile(
    "sampled",
    max_examples=50,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    max_examples=2_000,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("long" if os.environ.get("OTRTA_LONG") == "1" else "sampled")

# LiteLLM fetches its price map when it is imported, unless told otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def pytest_configure() -> None:
    sys.addaudithook(refuse_the_network)


def refuse_the_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Let this process reach loopback only, and fail elsewhere as a machine without a network does."""
    if event == "socket.getaddrinfo" and not (is_address(arguments[0]) or is_local(arguments[0])):
        raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {arguments[0]!r} is not looked up")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not is_local(arguments[1][0]):
        raise OSError(errno.ENETUNREACH, f"tests have no network: {arguments[1]!r} is not reached")


def is_address(host: Any) -> bool:
    """Whether this is an IP address, so that looking it up asks nobody."""
    try:
        ipaddress.ip_address(as_text(host))
    except ValueError:
        return False
    return True


def is_local(host: Any) -> bool:
    """Whether this names this machine."""
    text = as_text(host)
    if is_address(text):
        address = ipaddress.ip_address(text)
        return address.is_loopback or address.is_unspecified
    return text in ("", "localhost")


def as_text(host: Any) -> str:
    """The host as the socket module takes it: text, bytes, or None for this machine."""
    return host.decode() if isinstance(host, bytes) else host or ""
