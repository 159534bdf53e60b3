"""`python -m delivery.agent --folder FOLDER`: listens, with a token in SLIPWAY_AGENT_TOKEN, or checks once and ends."""

import argparse
import os
import signal
import sys
from pathlib import Path

from delivery.agent.folder import wrong_in
from delivery.agent.server import Agent

TOKEN = "SLIPWAY_AGENT_TOKEN"  # noqa: S105 - the name of a variable


def main(words: list[str]) -> int:
    """The exit status: 1 when an adapter is not what its name says, 2 without a token."""
    parser = argparse.ArgumentParser(prog="python -m delivery.agent", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="adapters, each in a folder named by its digest")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen")  # noqa: S104 - a pod's own address
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--read-only", action="store_true", help="take nothing in: others fill the folder")
    parser.add_argument("--check", action="store_true", help="check what is there, say what is wrong, and end")
    given = parser.parse_args(words)
    if given.check:
        problems = wrong_in(given.folder)
        print("\n".join(map(str, problems)) or f"every adapter in {given.folder} is what its name says", flush=True)
        return 1 if problems else 0
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        print(f"the environment variable {TOKEN} is not set: nobody could be let in", file=sys.stderr)
        return 2
    with Agent((given.host, given.port), given.folder, token, writable=not given.read_only) as agent:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"listening on {given.host}:{agent.server_address[1]} for {given.folder}", flush=True)
        agent.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
