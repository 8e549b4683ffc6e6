"""Workers and the process that starts them: refused together, gone together."""

import os
import signal
import subprocess
import sys
from pathlib import Path

HEAD = "import multiprocessing, os, time\nfrom otrta_litellm.supervisor import *\n"
SUPERVISOR = """
def main(count):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work) for _ in range(count)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
"""


def run(path: Path, work: str, start: str) -> subprocess.Popen[str]:
    path.write_text(f"{HEAD}{SUPERVISOR}\ndef work():\n    {work}\nif __name__ == '__main__': {start}\n")
    return subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_start_is_refused_with_one_line_and_its_own_exit_code(tmp_path: Path) -> None:
    refused = run(tmp_path / "alone.py", "refuse_start('it is\\n wrong')", "work()")
    assert refused.communicate(timeout=60) == ("", "otrta: it is wrong\n")
    assert refused.returncode == 3


def test_a_worker_that_refuses_ends_its_supervisor_and_the_others(tmp_path: Path) -> None:
    first = f"os.system('mkdir {tmp_path}/first 2>&-')"
    work = f"end_with_supervisor()\n    {first} and refuse_start('no')\n    time.sleep(600)"
    refused = run(tmp_path / "some.py", work, "main(2)")
    # communicate returns once the last process that holds these pipes is gone
    assert refused.communicate(timeout=60) == ("", "otrta: no\n")
    assert refused.returncode == -signal.SIGKILL


def test_workers_that_refuse_at_once_say_so_once(tmp_path: Path) -> None:
    # each waits until all are there
    meet = f"open(f'{tmp_path}/{{os.getpid()}}.here', 'w')"
    here = f"len(__import__('glob').glob('{tmp_path}/*.here'))"
    wait = f"[time.sleep(0.01) for _ in iter(lambda: {here} < 4, False)]"
    refused = run(tmp_path / "all.py", f"{meet}\n    {wait}\n    refuse_start('no')", "main(4)")
    assert refused.communicate(timeout=60) == ("", "otrta: no\n")
    assert refused.returncode == -signal.SIGKILL


def run_gunicorn(path: Path, work: str, workers: int) -> subprocess.Popen[str]:
    """Gunicorn as LiteLLM starts it: the app is loaded once, and each worker runs its own lifespan."""
    path.with_name("asgi_app.py").write_text(
        f"{HEAD}LOADED_BY = os.getpid()\n"
        f"async def app(scope, receive, send):\n    await receive()\n    {work}\n"
        "    await send({'type': 'lifespan.startup.complete'})\n    await receive()\n"
    )
    options = ["--preload", "-b", "127.0.0.1:0", "-k", "uvicorn.workers.UvicornWorker", "-w", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "gunicorn", *options, "--log-level", "error", "asgi_app:app"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=path.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_gunicorns_workers_that_refuse_at_once_say_so_once(tmp_path: Path) -> None:
    meet = f"open(f'{tmp_path}/{{os.getpid()}}.here', 'w')"
    here = f"len(__import__('glob').glob('{tmp_path}/*.here'))"
    wait = f"[time.sleep(0.01) for _ in iter(lambda: {here} < 3, False)]"
    refused = run_gunicorn(tmp_path / "x", f"end_with_supervisor(); {meet}; {wait}; refuse_start('no')", 3)
    assert refused.communicate(timeout=60) == ("", "otrta: no\n")
    assert refused.returncode == -signal.SIGKILL


def test_gunicorns_worker_that_comes_after_it_is_gone_says_nothing(tmp_path: Path) -> None:
    first = f"os.system('mkdir {tmp_path}/first 2>&-') or refuse_start('no')"
    late = "[time.sleep(0.01) for _ in iter(lambda: os.getppid() == LOADED_BY, False)]"
    refused = run_gunicorn(tmp_path / "x", f"{first}; {late}; end_with_supervisor(); print('unseen')", 2)
    assert refused.communicate(timeout=60) == ("", "otrta: no\n")
    assert refused.returncode == -signal.SIGKILL


def test_gunicorns_worker_does_not_outlive_it(tmp_path: Path) -> None:
    gunicorn = run_gunicorn(tmp_path / "x", "end_with_supervisor(); print('here', flush=True)", 1)
    assert gunicorn.stdout is not None
    assert gunicorn.stdout.readline() == "here\n"
    gunicorn.kill()
    assert gunicorn.communicate(timeout=60)[0] == ""


def test_a_worker_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    work = "end_with_supervisor()\n    print('here', flush=True)\n    time.sleep(600)"
    supervisor = run(tmp_path / "killed.py", work, "main(1)")
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "here\n"
    supervisor.kill()
    assert supervisor.communicate(timeout=60)[0] == ""


def test_a_worker_that_comes_after_its_supervisor_is_gone_says_nothing(tmp_path: Path) -> None:
    work = (
        "print('here', flush=True)\n    multiprocessing.parent_process().join()\n    "
        "print('unseen' if end_with_supervisor() else '')"
    )
    supervisor = run(tmp_path / "late.py", work, "main(1)")
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "here\n"
    supervisor.kill()
    assert supervisor.communicate(timeout=60) == ("", "")


def test_a_process_of_its_own_is_left_alone(tmp_path: Path) -> None:
    alone = run(tmp_path / "own.py", "end_with_supervisor(); print('still here')", "work()")
    assert alone.communicate(timeout=60) == ("still here\n", "")
    assert alone.returncode == 0
