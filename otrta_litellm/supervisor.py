"""The process that starts uvicorn's workers (``litellm --num_workers 2``): they begin and end together.

A worker that exits with uvicorn's code for a failed start makes the supervisor stop, but with exit code 0, as
if all had gone well. And a supervisor that is killed leaves its workers to serve on, with the store open and
the port taken, out of reach of whoever manages the service.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, NoReturn

KILLED_WITHIN_S: Final = 10.0
STARTUP_FAILED: Final = 3  # uvicorn's and gunicorn's code for "do not start this worker again"


def refuse_start(message: str) -> NoReturn:
    """End this worker before it serves, and its supervisor, with one line on stderr and an exit code above 0.

    An exception or ``SystemExit`` would come out as the lifespan's traceback; nothing is open yet that needs
    closing. Where another worker was faster, it has said why.
    """
    supervisor = multiprocessing.parent_process()
    with _one_at_a_time():
        if supervisor is None or supervisor.is_alive():
            sys.stdout.flush()
            sys.stderr.write(f"otrta: {' '.join(message.split())}\n")
            sys.stderr.flush()
            _kill(supervisor)
        os._exit(STARTUP_FAILED)


def end_with_supervisor() -> None:
    """From now on shut this worker down, as SIGTERM does, once its supervisor is gone.

    Does nothing in a process that has none.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    if not supervisor.is_alive():
        os._exit(STARTUP_FAILED)
    watch = threading.Thread(target=_follow, args=[supervisor], name="otrta-supervisor", daemon=True)
    watch.start()


def _follow(supervisor: BaseProcess) -> None:
    sentinel: Any = supervisor.sentinel
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let one worker of this installation refuse at a time, so that the next one sees what came of it."""
    with suppress(OSError, ImportError):
        import fcntl

        # held until the process ends; a file that every worker can read is enough
        fcntl.flock(os.open(__file__, os.O_RDONLY), fcntl.LOCK_EX)
    yield


def _kill(supervisor: BaseProcess | None) -> None:
    # nothing gentler ends it with a code above 0; as the first process of a container it cannot be killed
    # from here, and then stops by itself
    if supervisor is not None and supervisor.pid is not None:
        os.kill(supervisor.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        # its end of each worker's pipe closes by itself; this comes after all of them
        deadline = time.monotonic() + KILLED_WITHIN_S
        while os.getppid() == supervisor.pid and time.monotonic() < deadline:
            time.sleep(0.005)
