"""Traffic of many users through the gateway, with every answer checked: what a release has to survive.

Arrivals follow a Poisson process (users do not wait for each other) at a rate; when too many requests are in flight the
arrival is skipped and counted, so that a slow server is loaded, not buried. The same seed gives the same users, prompts
and arrival times.

    python -m demo.traffic --url http://127.0.0.1:8000 --route tutor --rate 2 --duration 60 --out requests.jsonl
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import aiohttp

from configs.errors import SlipwayError
from demo.traffic_answers import SeenAnswer
from demo.traffic_prompts import Conversation, read_prompts, tutoring_conversation

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
DRAIN_S = 45.0  # for the answers under way at the end; a machine that is busy gives long ones


@dataclass(frozen=True)
class Profile:
    """Who asks what, how often. `duration_s` 0: until told to stop."""

    url: str
    route: str
    users: int = 40
    rate: float = 2.0  # requests per second, on average
    duration_s: float = 60.0
    seed: int = 0
    stream_share: float = 0.5
    max_in_flight: int = 8
    timeout_s: float = 120.0
    conversations: tuple[Conversation, ...] = ()  # empty: built-in tutoring prompts


@dataclass(frozen=True)
class Arrival:
    """One request to be sent `at_s` seconds after the beginning."""

    at_s: float
    user: str
    stream: bool
    messages: Conversation


@dataclass
class UserOutcome:
    """One request as its user saw it: a line of the output file."""

    at: float  # UNIX seconds
    user: str
    stream: bool
    variant: str = ""  # as the gateway's header says
    request_id: str = ""
    status: int = 0
    ok: bool = False
    error: str = ""
    ttft_s: float | None = None
    duration_s: float = 0.0
    tokens: int = 0
    sha: str = ""  # of the answer's text


def arrivals(profile: Profile) -> Iterator[Arrival]:
    """The whole run, decided by the seed alone."""
    draw = random.Random(profile.seed)  # noqa: S311 - reproducible load, nothing secret
    at_s = 0.0
    while True:
        at_s += draw.expovariate(profile.rate)
        if profile.duration_s and at_s > profile.duration_s:
            return
        user = f"user-{draw.randrange(profile.users):04d}"
        stream = draw.random() < profile.stream_share
        messages = draw.choice(profile.conversations) if profile.conversations else tutoring_conversation(draw)
        yield Arrival(at_s, user, stream, messages)


async def generate(profile: Profile, out: TextIO, stop: asyncio.Event, drain_s: float = DRAIN_S) -> dict[str, Any]:
    """Sends it all, one JSON line per request into `out`; returns the summary. `stop` ends it early and in order.

    What has no answer `drain_s` after `stop` is a failure like any other: its user got nothing.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    outcomes: list[UserOutcome] = []
    running: set[asyncio.Task[None]] = set()
    skipped = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(profile.timeout_s)) as session:

        async def one(arrival: Arrival) -> None:
            outcome = UserOutcome(at=time.time(), user=arrival.user, stream=arrival.stream)
            asked_at = loop.time()
            try:
                await ask(session, profile, arrival, outcome)
            except asyncio.CancelledError:  # only below, when the time for the last answers is over
                outcome.duration_s = round(loop.time() - asked_at, 4)
                outcome.error = "no answer, and no more time for one after the traffic's end"
            outcomes.append(outcome)
            out.write(json.dumps(asdict(outcome)) + "\n")
            out.flush()

        for arrival in arrivals(profile):
            if await _wait(stop, began + arrival.at_s - loop.time()):
                break
            if len(running) >= profile.max_in_flight:
                skipped += 1
                continue
            task = asyncio.create_task(one(arrival))
            running.add(task)
            task.add_done_callback(running.discard)
        left: set[asyncio.Task[None]] = set()
        if running:
            _, left = await asyncio.wait(running, timeout=drain_s if stop.is_set() else profile.timeout_s)
        for task in left:
            task.cancel()
        await asyncio.gather(*left)
    return summary(outcomes, skipped=skipped, wall_s=loop.time() - began)


async def _wait(stop: asyncio.Event, seconds: float) -> bool:
    """Whether `stop` came before the time was over."""
    if seconds > 0:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return False
    return stop.is_set()


async def ask(session: aiohttp.ClientSession, profile: Profile, arrival: Arrival, outcome: UserOutcome) -> None:
    """One request; fills in whether its answer is what a user may expect."""
    began = time.monotonic()
    body: dict[str, Any] = {"model": profile.route, "messages": arrival.messages, "user": arrival.user}
    if arrival.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = SeenAnswer()
    try:
        async with session.post(profile.url.rstrip("/") + "/v1/chat/completions", json=body) as response:
            outcome.status = response.status
            outcome.variant = response.headers.get("x-slipway-variant", "")
            outcome.request_id = response.headers.get("x-slipway-request-id", "")
            if response.status != 200:
                answer.error = f"HTTP {response.status}: {(await response.text())[:200]}"
            elif arrival.stream:
                answer.done = False
                async for line in response.content:
                    if line.startswith(b"data:"):
                        answer.take_event(line[5:].strip().decode(errors="replace"))
                    if answer.text and outcome.ttft_s is None:
                        outcome.ttft_s = round(time.monotonic() - began, 4)
            else:
                answer.take(await response.json(content_type=None))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        answer.error = f"{type(error).__name__}: {error}"[:200]
    outcome.duration_s = round(time.monotonic() - began, 4)
    outcome.error = answer.problem
    outcome.ok = not outcome.error
    outcome.tokens = answer.tokens
    outcome.sha = hashlib.sha256(answer.text.encode()).hexdigest()[:16]


def summary(outcomes: Sequence[UserOutcome], *, skipped: int, wall_s: float) -> dict[str, Any]:
    """Counts and latencies, for all requests and by variant ("" is an answer without the gateway's header)."""
    by_variant = {name: _figures([o for o in outcomes if o.variant == name]) for name in {o.variant for o in outcomes}}
    return {
        **_figures(outcomes),
        "skipped": skipped,
        "wall_s": round(wall_s, 2),
        "users": len({o.user for o in outcomes}),
        "errors": sorted({o.error for o in outcomes if o.error})[:10],
        "by_variant": dict(sorted(by_variant.items())),
    }


def _figures(outcomes: Sequence[UserOutcome]) -> dict[str, Any]:
    durations = sorted(o.duration_s for o in outcomes if o.ok)
    first = sorted(o.ttft_s for o in outcomes if o.ok and o.ttft_s is not None)
    return {
        "requests": len(outcomes),
        "failures": sum(not o.ok for o in outcomes),
        "tokens": sum(o.tokens for o in outcomes),
        "p50_s": quantile(durations, 0.5),
        "p95_s": quantile(durations, 0.95),
        "ttft_p50_s": quantile(first, 0.5),
        "ttft_p95_s": quantile(first, 0.95),
    }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the ordered values do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def require_loopback(url: str) -> None:
    """Raises SlipwayError for another machine's address: load on somebody else's server must be asked for."""
    host = urlsplit(url).hostname
    if host not in LOOPBACK:
        raise SlipwayError(f"{url} is not on this machine", where="--url", cure="say --allow-remote if you mean it")


async def _main(profile: Profile, out: Path) -> dict[str, Any]:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        return await generate(profile, file, stop)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if every answer was good, 1 if not, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m demo.traffic", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--url", required=True, help="the gateway, e.g. http://127.0.0.1:8000")
    add("--route", required=True, help="the model name to ask for")
    add("--users", type=int, default=Profile.users)
    add("--rate", type=float, default=Profile.rate, help="requests per second (%(default)s)")
    add("--duration", type=float, default=Profile.duration_s, help="seconds; 0: until SIGTERM (%(default)s)")
    add("--seed", type=int, default=Profile.seed)
    add("--stream-share", type=float, default=Profile.stream_share)
    add("--max-in-flight", type=int, default=Profile.max_in_flight, help="skip arrivals above it (%(default)s)")
    add("--timeout", type=float, default=Profile.timeout_s, help="seconds for one answer (%(default)s)")
    add("--prompts", type=Path, help="a file: one prompt per line, or JSON lines with `messages`")
    add("--out", type=Path, required=True, help="JSON lines; the summary goes to stdout and to OUT.summary.json")
    add("--allow-remote", action="store_true", help="load a server that is not on this machine")
    given = parser.parse_args(arguments)
    try:
        if not given.allow_remote:
            require_loopback(given.url)
        conversations = read_prompts(given.prompts) if given.prompts else ()
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 2
    profile = Profile(
        url=given.url,
        route=given.route,
        users=given.users,
        rate=given.rate,
        duration_s=given.duration,
        seed=given.seed,
        stream_share=given.stream_share,
        max_in_flight=given.max_in_flight,
        timeout_s=given.timeout,
        conversations=conversations,
    )
    text = json.dumps(asyncio.run(_main(profile, given.out)), indent=2)
    given.out.with_name(given.out.name + ".summary.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if json.loads(text)["failures"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
