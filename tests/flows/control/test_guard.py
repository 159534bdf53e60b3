"""The door: nobody passes it unknown, from another site's page, or under another name of the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from configs.control_room import ControlRoom, ProxySignIn
from delivery.clients.people import People, people_file
from flows.control.guard import PAGE_CSP, STRICT_CSP, AccessGuard, Door
from flows.control.sessions import OF_A_NAME
from flows.control.sign_in import sign_in_routes

HERE = "http://127.0.0.1:8090"
SOCKET = "ws://127.0.0.1:8090/_nicegui_ws/"
PASSWORD = "correct horse battery"
GIVEN = {"name": "anna", "password": PASSWORD}
OURS = {"origin": HERE}


class World:
    """A door with one person behind it, and a clock."""

    def __init__(self, home: Path, settings: ControlRoom):
        self.now = 1000.0
        self.people = People(people_file(home), cost=16)
        self.people.put("anna", ("approver",), PASSWORD)
        self.token = self.people.put_token("ci", ("viewer",))
        self.door = Door(settings, self.people, lambda: self.now)
        app = FastAPI()
        app.include_router(sign_in_routes(self.door))

        @app.get("/")
        @app.post("/")
        @app.get("/api/v1/who")
        async def who(request: Request) -> str:
            return f"{request.state.person.name} {sorted(request.state.person.roles)}"

        @app.websocket("/_nicegui_ws/")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(websocket.scope["state"]["person"].name)
            await websocket.close()

        self.guarded = AccessGuard(app, self.door)

    def browser(self, address: str = "127.0.0.1", url: str = HERE) -> TestClient:
        return TestClient(self.guarded, base_url=url, client=(address, 50_000), follow_redirects=False)

    def signed_in(self) -> TestClient:
        browser = self.browser()
        assert browser.post("/sign-in", data=GIVEN, headers=OURS).status_code == 303
        return browser


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    return World(tmp_path, ControlRoom())


def test_whoever_is_unknown_is_sent_to_the_form_and_comes_back_to_the_page(world: World) -> None:
    sent = world.browser().get("/history?x=1")
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?next=/history%3Fx%3D1")
    form = world.browser().get(sent.headers["location"])
    assert 'value="/history?x=1"' in form.text


def test_after_signing_in_the_session_says_who_asks(world: World) -> None:
    assert world.signed_in().get("/").text == "\"anna ['approver']\""


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(world: World) -> None:
    cookie = world.browser().post("/sign-in", data=GIVEN, headers=OURS).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_behind_tls_the_cookie_never_travels_in_the_open(tmp_path: Path) -> None:
    public = "https://slipway.example.com"
    world = World(tmp_path, ControlRoom(public_url=public))
    answer = world.browser(url=public).post("/sign-in", data=GIVEN, headers={"origin": public})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("given", [{**GIVEN, "password": "wrong"}, {**GIVEN, "name": "bert"}, {}])
def test_a_wrong_sign_in_says_neither_which_part_is_wrong_nor_sets_a_cookie(
    world: World, given: dict[str, str]
) -> None:
    answer = world.browser().post("/sign-in", data=given, headers=OURS)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_guessing_ends_after_a_few_tries_even_with_the_right_password(world: World) -> None:
    browser = world.browser()
    for _ in range(OF_A_NAME):
        browser.post("/sign-in", data={**GIVEN, "password": "wrong"}, headers=OURS)
    assert browser.post("/sign-in", data=GIVEN, headers=OURS).status_code == 429
    world.now += 301
    assert browser.post("/sign-in", data=GIVEN, headers=OURS).status_code == 303


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"])
def test_the_form_leads_to_no_other_site(world: World, wanted: str) -> None:
    answer = world.browser().post("/sign-in", data={**GIVEN, "next": wanted}, headers=OURS)
    assert answer.headers["location"] == "/"


def test_what_somebody_types_is_shown_as_text(world: World) -> None:
    answer = world.browser().post("/sign-in", data={"name": '"><script>', "password": "x"}, headers=OURS)
    assert "<script>" not in answer.text


def test_a_form_without_end_is_not_read(world: World) -> None:
    assert world.browser().post("/sign-in", data={"name": "x" * 10_000}, headers=OURS).status_code == 413


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", None])
def test_no_page_of_another_site_acts_for_somebody_who_is_signed_in(world: World, origin: str | None) -> None:
    browser = world.signed_in()
    assert browser.post("/", headers={} if origin is None else {"origin": origin}).status_code == 403
    assert browser.post("/", headers=OURS).status_code == 200


def test_the_pages_socket_opens_for_our_own_pages_and_known_people_alone(world: World) -> None:
    browser = world.signed_in()
    with browser.websocket_connect(SOCKET, headers=OURS) as socket:
        assert socket.receive_text() == "anna"
    for one, origin in ((browser, "https://evil.example"), (world.browser(), HERE)):
        with (
            pytest.raises(WebSocketDisconnect),
            one.websocket_connect(SOCKET, headers={"origin": origin}) as socket,
        ):
            socket.receive_text()


def test_a_name_that_was_pointed_at_this_machine_reaches_nothing(world: World) -> None:
    assert world.browser(url="http://evil.example:8090").get("/sign-in").status_code == 403


def test_a_session_ends_with_its_person_with_its_time_and_by_signing_out(world: World) -> None:
    gone, idle, out = world.signed_in(), world.signed_in(), world.signed_in()
    out.post("/sign-out", headers=OURS)
    assert out.get("/").status_code == 303
    world.now += 28_801
    assert idle.get("/").status_code == 303
    fresh = world.signed_in()
    world.people.remove("anna")
    assert (gone.get("/").status_code, fresh.get("/").status_code) == (303, 303)


def test_a_changed_role_counts_from_the_next_request_on(world: World) -> None:
    browser = world.signed_in()
    world.people.put("anna", ("viewer",), PASSWORD)
    assert browser.get("/").text == "\"anna ['viewer']\""


def test_a_program_shows_its_token_and_is_told_what_is_missing(world: World) -> None:
    browser = world.browser()
    known = browser.get("/api/v1/who", headers={"authorization": f"Bearer {world.token}"})
    assert known.text == "\"ci ['viewer']\""
    for header in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Basic ?"},
    ):
        answer = browser.get("/api/v1/who", headers=header)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "detail" in answer.json()


def test_a_program_that_can_only_send_what_a_url_holds_gives_its_token_as_password(world: World) -> None:
    known = world.browser(url=HERE.replace("//", f"//flagger:{world.token}@")).get("/api/v1/who")
    assert known.text == "\"ci ['viewer']\""
    assert world.browser(url=HERE.replace("//", f"//anna:{PASSWORD}@")).get("/api/v1/who").status_code == 401


def test_reading_without_signing_in_is_for_viewers_and_only_where_it_is_configured(tmp_path: Path) -> None:
    world = World(tmp_path, ControlRoom(read_without_sign_in=True))
    assert world.browser().get("/").text == "\" ['viewer']\""


def test_a_proxys_word_counts_from_its_own_address_and_for_known_people_alone(tmp_path: Path) -> None:
    world = World(tmp_path, ControlRoom(proxy=ProxySignIn(addresses=("10.0.0.7",))))
    anna, bert = {"x-forwarded-user": "anna"}, {"x-forwarded-user": "bert"}
    assert world.browser("10.0.0.7").get("/", headers=anna).text == "\"anna ['approver']\""
    assert world.browser("10.0.0.8").get("/", headers=anna).status_code == 303
    assert world.browser("10.0.0.7").get("/", headers=bert).status_code == 303


def test_every_answer_says_what_a_browser_may_do_with_it(world: World) -> None:
    browser = world.signed_in()
    assert browser.get("/").headers["content-security-policy"] == PAGE_CSP
    for path in ("/sign-in", "/api/v1/who", "/looks.css"):
        assert browser.get(path).headers["content-security-policy"] == STRICT_CSP
    assert browser.get("/").headers["cache-control"] == "no-store"
    assert browser.get("/").headers["x-frame-options"] == "DENY"
