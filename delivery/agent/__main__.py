"""`python -m delivery.agent --folder FOLDER`: listens, with a token in SLIPWAY_AGENT_TOKEN, or does one thing and ends.

With `--config FILE` it pulls adapters from the registry that the file names, and takes none that are sent.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from configs.agent import AgentConfig
from configs.errors import SlipwayError
from configs.loading import load
from delivery.agent.folder import wrong_in
from delivery.agent.server import Agent, in_one_line

TOKEN = "SLIPWAY_AGENT_TOKEN"  # noqa: S105 - the name of a variable


def main(words: list[str]) -> int:
    """The exit status: 1 when an adapter is refused, 2 without a token or with a file that cannot be used."""
    given = _parser().parse_args(words)
    if given.check:
        problems = wrong_in(given.folder)
        print("\n".join(map(str, problems)) or f"every adapter in {given.folder} is what its name says", flush=True)
        return 1 if problems else 0
    try:
        pulls = load(given.config, AgentConfig) if given.config is not None else None
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 2
    if given.pull:
        return _pull_all(given.folder, pulls, given.pull)
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        print(f"the environment variable {TOKEN} is not set: nobody could be let in", file=sys.stderr)
        return 2
    with Agent((given.host, given.port), given.folder, token, writable=not given.read_only, pulls=pulls) as agent:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"listening on {given.host}:{agent.server_address[1]} for {given.folder}", flush=True)
        agent.serve_forever()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m delivery.agent", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="adapters, each in a folder named by its digest")
    parser.add_argument("--host", default="0.0.0.0", help="where to listen")  # noqa: S104 - a pod's own address
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--read-only", action="store_true", help="take nothing in: others fill the folder")
    parser.add_argument("--config", type=Path, help="registry and signatures, as YAML: adapters are pulled")
    parser.add_argument("--check", action="store_true", help="check what is there, say what is wrong, and end")
    parser.add_argument("--pull", action="append", metavar="DIGEST", help="with --config: pull this bundle, and end")
    return parser


def _pull_all(folder: Path, config: AgentConfig | None, digests: list[str]) -> int:
    """A line for each; the last one says why, since it is what a cluster shows of a container that failed."""
    from delivery.agent.pulled import pull_in

    if config is None:
        print("--pull needs --config", file=sys.stderr)
        return 2
    refusals = []
    for digest in digests:
        try:
            print(f"{digest}: adapter {pull_in(folder, config, digest, time.time())}", flush=True)
        except SlipwayError as error:
            refusals.append(f"{digest}: {in_one_line(error)}")
    print("\n".join(refusals), file=sys.stderr, flush=True)
    return 1 if refusals else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
