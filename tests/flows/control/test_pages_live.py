"""The pages in a real browser: Debian's Chromium, driven through playwright, over a release in real time."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from control_scene import PASSWORD, ControlScene

from delivery.clients.ledger.review import Queue
from delivery.review.items import AskedAndAnswered, ItemDraft

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium: run tests/engines.sh chromium"),
]

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}
PATIENCE_MS = 120_000  # for a busy machine; whatever a page shows then stays until the test goes on
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlScene, str]]:
    """One room for all tests of this file, since a process has one."""
    scene = ControlScene(tmp_path_factory.mktemp("control"))
    scene.add_people()
    with scene.served() as url:
        yield scene, url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def opened(chromium: Any, url: str, who: str, **settings: Any) -> Any:
    """Somebody's page Now; whatever the browser complains about fails the test.

    Nothing moves on it, as its style sheet promises to whoever asks for that: axe would judge what is half seen.
    """
    context = chromium.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **settings})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text) if is_complaint(said) else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(url)
    page.fill("#name", who)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('tutor')")
    return page


def is_complaint(said: Any) -> bool:
    """Whether the page is to blame: that a container's network came or went on this machine is said as an error too."""
    return said.type == "error" and "net::ERR_NETWORK_CHANGED" not in said.text


def faults(page: Any) -> list[str]:
    """What axe finds against WCAG 2.1 AA."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def test_a_release_is_watched_and_approved_and_taken_back(chromium: Any, control: tuple[ControlScene, str]) -> None:
    scene, url = control
    phone = opened(chromium, url, "vera", viewport=PHONE, color_scheme="dark")
    assert phone.locator("button:has-text('Roll back')").count() == 0, "a viewer has no buttons"
    page = opened(chromium, url, "omar")
    scene.release_until(lambda: scene.state().stage_index == 1 and scene.state().clocks.stage_s >= 5)
    page.wait_for_selector("li.now:has-text('canary')")
    page.wait_for_selector("text=Next pass possible")
    scene.go_on()
    scene.wait_for(scene.waits)
    page.wait_for_selector("text=An approval is wanted")
    phone.wait_for_selector("text=An approval is wanted")
    assert [*faults(page), *faults(phone)] == []
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.click("button:has-text('Approve')")
    page.wait_for_selector("text=goes on to its next stage")
    assert faults(page) == []
    page.get_by_label("Reason").fill("read <b>twenty</b> answers")
    page.click("button:has-text('Approve now')")
    page.wait_for_selector("text=approved: tutor-")
    released = scene.ended()
    assert released.outcome == "live"
    found = scene.scene.ledger.approval(released.release_id, 1)
    assert found is not None
    assert (found.by, found.reason) == ("omar", "read <b>twenty</b> answers")

    page.click("button:has-text('Roll back')")
    page.wait_for_selector("text=All users of tutor get")
    page.click("button:has-text('Roll back now')")
    scene.wait_for(lambda: scene.scene.serves() == {scene.scene.base.variant_name})
    command = scene.scene.ledger.command(released.release_id)
    assert command is not None
    assert command.by == "omar"
    scene.wait_for(lambda: scene.scene.ledger.releases("local")[0]["phase"] == "rolled_back")
    assert page.complaints == []
    assert phone.complaints == []


def test_everything_is_reached_by_keyboard_with_the_focus_in_sight(
    chromium: Any, control: tuple[ControlScene, str]
) -> None:
    page = opened(chromium, control[1], "omar")
    page.wait_for_selector("button:has-text('Build')")
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        if seen[-1] == "Build":
            break
    assert {"Skip to the content", "Now", "Sign out", "Release", "Build"} <= set(seen)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The command slipway build")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    page.wait_for_selector("text=The command slipway build", state="detached")


def test_items_are_reviewed_one_after_the_other_by_keyboard(chromium: Any, control: tuple[ControlScene, str]) -> None:
    scene, url = control
    ledger, queue = scene.room.site("tutor").ledger, Queue(environment="local", route="tutor")
    answers = ("The answer is 12.", "What would you add first?", "It is <b>56</b>, since 7 x 8 is.")
    drafts = [
        ItemDraft(
            origin="negative",
            why="rated 1 of 5",
            asked=AskedAndAnswered(
                messages=({"role": "user", "content": f"What is {n} x 8? Please only tell me the result."},),
                answer=answer,
                comment="That is not what I asked for",
            ),
            request_id=f"q{n}",
            user="u",
            at=1.0,
        )
        for n, answer in enumerate(answers, start=5)
    ]
    ledger.review.add(queue, drafts, "collector", scene.door.clock())
    page = opened(chromium, url, "rita")
    page.goto(f"{url}/review")
    page.wait_for_selector("text=3 negative")
    page.keyboard.press("n")
    page.wait_for_selector("text=What is 5 x 8?")
    assert faults(page) == []
    page.get_by_label("Reason").fill("it gives the answer away, an n, r and w in it")
    page.get_by_label("What should have been answered").fill("The answer is 40. How do you get there?")
    page.click("button:has-text('Save the rewrite')")
    page.wait_for_selector("text=is now to be approved by 1")
    page.wait_for_selector("text=What is 6 x 8?")
    page.click("h1")
    page.keyboard.press("a")
    page.wait_for_selector("text=is approved")
    page.wait_for_selector("text=What is 7 x 8?")
    page.keyboard.press("r")
    page.wait_for_selector("text=Nothing waits for you")
    page.wait_for_selector("text=1 negative")
    assert faults(page) == []
    verdicts = {item.request_id: item.status for item in ledger.review.items(queue)}
    assert verdicts == {"q5": "open", "q6": "approved", "q7": "rejected"}
    [rewritten] = [item for item in ledger.review.items(queue) if item.request_id == "q5"]
    assert (rewritten.rewritten_by, rewritten.answer) == ("rita", "The answer is 40. How do you get there?")
    assert page.complaints == []


def test_the_form_has_no_fault_and_a_session_that_ended_leads_back_to_it(
    chromium: Any, control: tuple[ControlScene, str]
) -> None:
    scene, url = control
    page = opened(chromium, url, "vera", color_scheme="dark")
    scene.people.remove("vera")
    page.wait_for_selector("label:has-text('Password')")
    assert faults(page) == []
