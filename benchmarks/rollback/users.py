"""Users who ask, evenly, until told to stop: `python -m benchmarks.rollback.users REQUESTS_PER_S URL...`.

At SIGTERM the last line of standard output says how many requests were made, and which of them got no good answer.
"""

import asyncio
import itertools
import json
import signal
import sys
from dataclasses import dataclass, field

import aiohttp

USERS = 200
BODY = {"model": "tutor", "messages": [{"role": "user", "content": "What is 1 + 1?"}]}


@dataclass
class Seen:
    """What users got."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)


async def ask(http: aiohttp.ClientSession, url: str, user: int, seen: Seen) -> None:
    """One request of one user."""
    seen.asked += 1
    try:
        async with http.post(f"{url}/v1/chat/completions", json=BODY, headers={"x-slipway-user": f"u{user}"}) as answer:
            text = await answer.text()
            if answer.status != 200:
                seen.failed.append(f"{answer.status}: {text[:200]}")
    except (aiohttp.ClientError, TimeoutError) as error:
        seen.failed.append(repr(error))


async def main(requests_per_s: float, urls: list[str]) -> None:
    """At an even pace, whether or not answers come."""
    stop, seen = asyncio.Event(), Seen()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    under_way: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        for number in itertools.count():
            if stop.is_set():
                break
            task = asyncio.create_task(ask(http, urls[number % len(urls)], number % USERS, seen))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / requests_per_s)
        await asyncio.gather(*under_way)
    print(json.dumps({"asked": seen.asked, "failed": seen.failed}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
