"""`python -m delivery.gateway`: the gateway as a process of its own."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

import uvloop

from configs.errors import SlipwayError
from delivery.gateway.admission import allow_open_files
from delivery.gateway.arguments import WorkerPlace, parser, settings_of
from delivery.gateway.pauses import short_pauses
from delivery.gateway.server import serving
from delivery.gateway.settings import Settings
from delivery.gateway.workers.member import Member
from delivery.gateway.workers.serving import serving_fleet

log = logging.getLogger("slipway.gateway")
RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _JsonLines(logging.Formatter):
    def __init__(self, process: Mapping[str, object]):
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        line |= self._process
        line |= {key: value for key, value in vars(record).items() if key not in RESERVED}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Serves until SIGTERM or SIGINT; the exit status is 2 if it cannot be started."""
    arguments = parser().parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines({"worker": arguments.worker.index} if arguments.worker is not None else {}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = settings_of(arguments, environ)
        if settings.workers == 1 or arguments.worker is not None:
            allow_open_files(settings.max_in_flight, settings.max_connections)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if arguments.worker is not None:
                runner.run(_serve_as_worker(settings, arguments.worker))
            elif settings.workers > 1:
                runner.run(_serve_as_fleet(settings))
            else:
                runner.run(_serve(settings))
    except SlipwayError as error:
        print(error.render(), file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    stopped = _stopped(signal.SIGTERM, signal.SIGINT)
    async with serving(settings) as gateway, short_pauses():
        said = {"port": gateway.port, "admin_port": gateway.admin_port, "revision": gateway.tables.revision}
        log.info("the gateway serves", extra=said)
        await stopped.wait()
        log.info("the gateway drains", extra={"in_flight": len(gateway.attempts.in_flight)})
    log.info("the gateway has stopped")


async def _serve_as_fleet(settings: Settings) -> None:
    stopped = _stopped(signal.SIGTERM, signal.SIGINT)
    async with serving_fleet(settings) as one:
        said = {"port": one.port, "admin_port": one.admin_port, "revision": one.fleet.tables.revision}
        log.info("the gateway serves", extra=said | {"workers": settings.workers})
        await stopped.wait()
        log.info("the gateway drains", extra={"in_flight": len(one.fleet.records.in_flight())})
    log.info("the gateway has stopped")


async def _serve_as_worker(settings: Settings, place: WorkerPlace) -> None:
    """Ends when it is told to, or when the fleet is gone. What a terminal sends to all is the fleet's affair."""
    stopped = _stopped(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    member = Member(socket.socket(fileno=place.link))
    async with serving(settings, member=member) as gateway, short_pauses():
        log.info("a worker serves", extra={"port": gateway.port})
        ends = [asyncio.create_task(event.wait()) for event in (stopped, member.ended)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        log.info("a worker drains", extra={"in_flight": len(gateway.attempts.in_flight)})


def _stopped(*signals: signal.Signals) -> asyncio.Event:
    """Set by any of these."""
    stopped = asyncio.Event()
    for name in signals:
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    return stopped


if __name__ == "__main__":
    sys.exit(main())
