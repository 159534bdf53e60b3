"""The control room's process: the pages, the sign-in and the doors for machines behind one guard."""

import asyncio
import os
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from configs.control_room import ControlRoom
from configs.errors import SlipwayError
from delivery.clients.people import People, people_file
from flows.control.acts import Acts
from flows.control.api import verdict_routes
from flows.control.guard import AccessGuard, Door
from flows.control.room import Room
from flows.control.sign_in import sign_in_routes


def serve(room: Room, settings: ControlRoom, clock: Callable[[], float], say: Callable[[str], None]) -> None:
    """Serves until a signal ends it."""
    door = Door(settings, People(people_file(room.home)), clock)
    listener = listening(settings)
    if not door.people.names() and not settings.read_without_sign_in:
        say("nobody can sign in yet: slipway people add NAME --role ROLE")
    host, port = listener.getsockname()[:2]
    say(f"control room: {settings.public_url or f'http://{host}:{port}'}")
    config = uvicorn.Config(application(room, Acts(room), door), log_level="warning", ws="wsproto", server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def listening(settings: ControlRoom) -> socket.socket:
    """A bound socket. Raises SlipwayError when the port is taken."""
    try:
        return socket.create_server((settings.host, settings.port), family=_family(settings.host), backlog=128)
    except OSError as error:
        raise SlipwayError(
            f"the control room cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            where="environment.yaml: control_room",
            cure="end what listens there, or choose another port: slipway ui --port N",
        ) from error


def application(room: Room, acts: Acts, door: Door) -> ASGIApp:
    """Everything, behind the guard. NiceGUI keeps its pages in the process: there is one control room in each."""
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(room.home / "control-room" / "nicegui"))
    from nicegui import app as pages
    from nicegui import ui

    from flows.control.pages import now_page
    from flows.control.past_pages import past_pages
    from flows.control.review_page import review_page

    app = machine_doors(room)
    app.include_router(sign_in_routes(door))
    ui.page("/", title="Now")(now_page(room, acts, door))
    ui.page("/review", title="Review")(review_page(room, door))
    past_pages(room)
    tasks: list[asyncio.Task[None]] = []
    pages.config.quasar_config["loadingBar"] = {"skipHijack": True}  # a bar without a name, at each request of a page
    pages.on_startup(lambda: tasks.append(asyncio.create_task(room.run())))
    pages.on_shutdown(room.close)
    ui.run_with(app, title="Slipway", dark=None, language="en-US", tailwind=False, show_welcome_message=False)
    return AccessGuard(app, door)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def machine_doors(room: Room) -> FastAPI:
    """The API alone; its OpenAPI document is at /api/openapi.json, for whoever may read."""
    app = FastAPI(
        title="Slipway's control room",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(verdict_routes(room))
    return app
