"""Run it from the checkout: ``.venv/bin/python -m bench.soak [--seconds 1800]``.

``--kill-gateway 0`` and ``--kill-mint 0`` kill nothing.
"""

import argparse
import json
import sys
from pathlib import Path

from bench.soak.run import Plan, soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kill-gateway", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--kill-mint", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file that takes the account")
    given = parser.parse_args()
    plan = Plan(
        seconds=given.seconds,
        clients=given.clients,
        kill_gateway_s=given.kill_gateway or None,
        kill_mint_s=given.kill_mint or None,
        seed=given.seed,
    )
    account = soak(plan, lambda line: print(line, file=sys.stderr))
    text = json.dumps(account, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    if account["wrong"] or account["unaccounted"] or account["gateway_unaccounted"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
