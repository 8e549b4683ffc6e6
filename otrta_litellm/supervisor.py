"""The process that starts the workers (``litellm --num_workers 2``): they begin and end together.

A worker that exits with uvicorn's code for a failed start makes uvicorn's supervisor stop, but with exit code
0, as if all had gone well; gunicorn's stops with that code, after its other workers have said the same. And a
supervisor that is killed leaves its workers to serve on, with the store open and the port taken, out of reach
of whoever manages the service.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType
from typing import Final, NoReturn

KILLED_WITHIN_S: Final = 10.0
LOOK_EVERY_S: Final = 0.5
STARTUP_FAILED: Final = 3  # uvicorn's and gunicorn's code for "do not start this worker again"


def refuse_start(message: str) -> NoReturn:
    """End this worker before it serves, and its supervisor, with one line on stderr and an exit code above 0.

    An exception or ``SystemExit`` would come out as the lifespan's traceback; nothing is open yet that needs
    closing. Where another worker was faster, it has said why.
    """
    supervisor = _supervisor_of(os.getpid())
    with _one_at_a_time():
        if supervisor is None or os.getppid() == supervisor:
            sys.stdout.flush()
            sys.stderr.write(f"otrta: {' '.join(message.split())}\n")
            sys.stderr.flush()
            _kill(supervisor)
        os._exit(STARTUP_FAILED)


def end_with_supervisor() -> None:
    """From now on shut this worker down, as SIGTERM does, once its supervisor is gone.

    Does nothing in a process that has none.
    """
    supervisor = _supervisor_of(os.getpid())
    if supervisor is None:
        return
    if os.getppid() != supervisor:
        os._exit(STARTUP_FAILED)
    watch = threading.Thread(target=_follow, args=[supervisor], name="otrta-supervisor", daemon=True)
    watch.start()


@cache
def _supervisor_of(_worker: int) -> int | None:
    """The process that started this one as one of its workers, be it gone by now."""
    parent = multiprocessing.parent_process()
    return _gunicorns_pid() if parent is None else parent.pid


def _gunicorns_pid() -> int | None:
    # gunicorn forks its workers without telling them more; its worker's object runs what runs us
    base = sys.modules.get("gunicorn.workers.base")
    frame: FrameType | None = sys._getframe()
    while base is not None and frame is not None:
        worker = frame.f_locals.get("self")
        if isinstance(worker, base.Worker):
            return int(worker.ppid)
        frame = frame.f_back
    return None


def _follow(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let one worker of this installation refuse at a time, so that the next one sees what came of it."""
    with suppress(OSError, ImportError):
        import fcntl

        # held until the process ends; a file that every worker can read is enough
        fcntl.flock(os.open(__file__, os.O_RDONLY), fcntl.LOCK_EX)
    yield


def _kill(supervisor: int | None) -> None:
    # nothing gentler ends it with a code above 0; as the first process of a container it cannot be killed
    # from here, and then stops by itself
    if supervisor is not None:
        os.kill(supervisor, getattr(signal, "SIGKILL", signal.SIGTERM))
        deadline = time.monotonic() + KILLED_WITHIN_S
        while os.getppid() == supervisor and time.monotonic() < deadline:
            time.sleep(0.005)
