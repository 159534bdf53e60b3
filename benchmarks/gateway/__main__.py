"""What the gateway costs, beside its peers: `python -m benchmarks.gateway --json PATH [--seconds S] [--only NAME ...]`.

Client and stub share the first core, the server under test has the second to itself. Everything is measured in one run;
what cannot be measured is said and skipped. Figures of a machine that has something else to do are worth nothing.
`--plot` draws the figures, `--readme` puts them between its two marks; `--from PATH` takes those of an earlier run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.gateway import servers
from benchmarks.gateway.load import drive, quantile
from benchmarks.gateway.plot import draw
from benchmarks.gateway.servers import Server, SkippedError
from benchmarks.gateway.soak import soak
from benchmarks.gateway.table import put_into
from configs.errors import SlipwayError

LOADED, ALONE, STREAMS = 64, 1, 256  # connections
RAMP_S = 2.0  # as long as a stream: users do not all begin in the same millisecond
WARM_S = 1.0


@dataclass
class BenchmarkRun:
    """One run of the benchmark: where, how long, and what came of it."""

    seconds: float
    cores: tuple[int, int]
    folder: Path
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)  # over all rounds
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, start: Callable[[], AbstractContextManager[Server]]) -> None:
        """All figures of one server."""

        def all_figures() -> dict[str, float]:
            with start() as server:
                return {**self._plain(server), **self._streams(server)}

        self.keep(name, all_figures)

    def keep(self, name: str, measure: Callable[[], dict[str, float]]) -> None:
        """The figures, or why there are none."""
        try:
            found = measure()
        except SkippedError as reason:
            self.skipped[name] = str(reason)
            print(f"SKIPPED {name}: {reason}", file=sys.stderr)
            return
        print(f"{name:<12} " + "  ".join(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
        self.rounds.setdefault(name, []).append(found)
        self.figures[name] = combined(self.rounds[name])

    def _plain(self, server: Server) -> dict[str, float]:
        drive(server.port, server.key, LOADED, WARM_S)
        before = server.cpu_s()
        loaded = drive(server.port, server.key, LOADED, self.seconds)
        cpu_s = server.cpu_s() - before
        alone = drive(server.port, server.key, ALONE, self.seconds / 2)
        return {
            "requests_per_s": loaded.per_s,
            "cpu_us_per_request": 1e6 * cpu_s / max(1, len(loaded.latencies)),
            "failed": loaded.failed + alone.failed,
            "loaded_p50_ms": 1e3 * quantile(loaded.latencies, 0.5),
            "loaded_p99_ms": 1e3 * quantile(loaded.latencies, 0.99),
            "alone_p50_ms": 1e3 * quantile(alone.latencies, 0.5),
            "alone_p99_ms": 1e3 * quantile(alone.latencies, 0.99),
        }

    def _streams(self, server: Server) -> dict[str, float]:
        spent: list[float] = []
        streams = drive(
            server.port,
            server.key,
            STREAMS,
            max(self.seconds, 3.0),
            stream=True,
            ramp_s=RAMP_S,
            when_full=lambda: spent.append(server.cpu_s()),
        )
        cpu_s = server.cpu_s() - spent[0]
        tokens_per_s = len(streams.transits) / streams.seconds
        return {
            "tokens_per_s": tokens_per_s,
            "token_transit_p50_ms": 1e3 * quantile(streams.transits, 0.5),
            "token_transit_p99_ms": 1e3 * quantile(streams.transits, 0.99),
            "core_per_1000_tokens_per_s": cpu_s / streams.seconds / max(tokens_per_s, 1e-9) * 1000,
            "streams_failed": streams.failed,
        }

    def mirrored(self, upstream: int) -> dict[str, float]:
        """The user's p99 without a mirror, and while every request is copied: to a model as fast, or one that is slow.

        An answer takes 20 ms, a slow one a second.
        """
        p99: dict[str, list[float]] = {"": [], "steady": [], "slow": []}
        for mirror in (*p99, *reversed(p99)):  # none has the advantage of being later
            with servers.ours(upstream, self.cores[1], self.folder, mirror=mirror) as server:
                drive(server.port, server.key, 8, WARM_S)
                p99[mirror].append(1e3 * quantile(drive(server.port, server.key, 8, self.seconds).latencies, 0.99))
        return {f"{model or 'off'}_p99_ms": mean(found) for model, found in p99.items()}


def combined(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians; of failures their sum."""
    sums = ("failed", "streams_failed")
    return {what: (sum if what in sums else median)([found[what] for found in rounds]) for what in rounds[0]}


def judged(figures: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The targets, with what was measured; only those whose servers ran."""
    found: list[dict[str, Any]] = []

    def add(what: str, measured: float, target: float, *, at_least: bool) -> None:
        met = measured >= target if at_least else measured <= target
        found.append({"what": what, "measured": measured, "target": target, "at_least": at_least, "met": met})

    mine, direct = figures.get("ours"), figures.get("direct")
    if mine:
        add("requests per second on one core", mine["requests_per_s"], 2500, at_least=True)
        add("share of a core per 1,000 tokens/s", mine["core_per_1000_tokens_per_s"], 0.2, at_least=False)
        for peer, times in (("vllm-router", 0.5), ("litellm", 50.0)):
            if peer in figures:
                ratio = mine["requests_per_s"] / figures[peer]["requests_per_s"]
                add(f"times the requests per second of {peer}", ratio, times, at_least=True)
    if mine and direct:
        for q, most in (("p50", 1.0), ("p99", 3.0)):
            add(f"ms added alone, {q}", mine[f"alone_{q}_ms"] - direct[f"alone_{q}_ms"], most, at_least=False)
        added = mine["token_transit_p99_ms"] - direct["token_transit_p99_ms"]
        add("ms added between tokens of 256 streams, p99", added, 2.0, at_least=False)
    if "mirror" in figures:
        for model, what in (("steady", "one as fast as stable"), ("slow", "one that takes 50 times as long")):
            more = figures["mirror"][f"{model}_p99_ms"] / figures["mirror"]["off_p99_ms"] - 1
            add(f"share that copies to {what} add to the users' p99", more, 0.05, at_least=False)
    if "soak" in figures:
        add("MiB more after the soak", figures["soak"]["grown_mib"], 10.0, at_least=False)
        add("requests that failed in the soak", figures["soak"]["failed"], 0.0, at_least=False)
    return found


def main(arguments: list[str]) -> int:
    """0 if every target that could be measured is met, 1 if one is missed, 2 if the figures cannot be shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--json", type=Path, help="measure, and write the figures here")
    source.add_argument("--from", dest="earlier", type=Path, help="measure nothing: an earlier run's JSON")
    parser.add_argument("--plot", type=Path, help="where the picture goes (its suffix says which kind)")
    parser.add_argument("--readme", type=Path, help="a page with two marks, between which the tables go")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="through all servers; medians count (%(default)s)")
    parser.add_argument("--soak-s", type=float, default=600.0, help="with churn of candidates; 0: none (%(default)s)")
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="their environment (%(default)s)")
    parser.add_argument(
        "--only", nargs="*", default=None, help="direct, ours, ours-plain, nginx, vllm-router, litellm, mirror, soak"
    )
    chosen = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if chosen.json and len(cores) < 2:
        parser.error("two cores are needed: one for the client and the stub, one for the server")
    try:
        described = _measured(chosen, cores) if chosen.json else _earlier(chosen.earlier)
        if chosen.plot:
            draw(described, chosen.plot)
        if chosen.readme:
            put_into(chosen.readme, described)
    except SlipwayError as error:
        print(error.render(), file=sys.stderr)
        return 2
    return 0 if all(target["met"] for target in described["targets"]) else 1


def _earlier(path: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        cure = "name a file that --json has written"
        raise SlipwayError(f"an earlier run's figures cannot be read: {error}", where=str(path), cure=cure) from None
    return described


def _measured(chosen: argparse.Namespace, cores: list[int]) -> dict[str, Any]:
    os.sched_setaffinity(0, {cores[0]})
    with tempfile.TemporaryDirectory() as place:
        run = BenchmarkRun(chosen.seconds, (cores[0], cores[1]), Path(place))
        with servers.stub(cores[0], run.folder) as stub:
            _measure_all(run, stub, chosen)
    os.sched_setaffinity(0, cores)
    return _report(chosen.json, run, judged(run.figures))


def _measure_all(run: BenchmarkRun, stub: Server, chosen: argparse.Namespace) -> None:
    def wanted(name: str) -> bool:
        return chosen.only is None or name in chosen.only

    core, folder = run.cores[1], run.folder
    starts: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        "direct": partial(servers.stub, core, folder),
        "ours": partial(servers.ours, stub.port, core, folder),
        "ours-plain": partial(servers.ours, stub.port, core, folder, features=False),
        "nginx": partial(servers.nginx, stub.port, core, folder),
        "vllm-router": lambda: servers.vllm_router(stub.port, core, folder, servers.peers_environment(chosen.peers)),
        "litellm": lambda: servers.litellm(stub.port, core, folder, servers.peers_environment(chosen.peers)),
    }
    for _ in range(chosen.rounds):
        for name, start in starts.items():
            if wanted(name):
                run.measure(name, start)
        if wanted("mirror"):
            run.keep("mirror", partial(run.mirrored, stub.port))
    if chosen.soak_s and wanted("soak"):
        run.keep("soak", partial(soak, stub.port, core, folder, chosen.soak_s))


def _report(path: Path, run: BenchmarkRun, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    for verdict in verdicts:
        sign, word = (">=" if verdict["at_least"] else "<="), ("met   " if verdict["met"] else "MISSED")
        print(f"{word} {verdict['what']}: {verdict['measured']:.4g} (target {sign} {verdict['target']:g})")
    described = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": os.getloadavg(),
        "seconds": run.seconds,
        "rounds": run.rounds,
        "peers": servers.PEERS,
        "commit": _commit(),
        "figures": run.figures,
        "skipped": run.skipped,
        "targets": verdicts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(described, indent=2) + "\n")
    return described


def _commit() -> str:
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
