"""The product's story on the embedded default: what `make demo` runs. Every figure comes from the run itself."""

import atexit
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import SlipwayError
from configs.project import Project, load_project
from delivery.build.bundle import adapter_name
from delivery.clients.processes import local as processes
from delivery.progress import Repetition
from demo import home as demo_home
from demo import stage as demo_stage
from demo import summary as demo_summary
from demo.memory import PeakMemory
from demo.stage import UsersSeen
from tasks.preflight import Precheck, before_build, before_up
from tasks.serving import environment
from tasks.serving import local as serving

if TYPE_CHECKING:  # Prefect is imported after its server has started and its address is known
    from flows.build import BuildOutcome
    from tasks.release.outcome import ReleaseOutcome

TUTOR, GIVEAWAY, NEXT = (Path("configs") / name for name in ("tutor", "tutor-giveaway", "tutor-next"))
PROCESSES = ("vllm", "gateway", serving.SUPERVISOR, "prefect", "faults", "traffic")
RATE = 4.0  # requests per second, as far as vLLM keeps up


@dataclass
class DemoStory:
    """What has happened so far."""

    home: Path
    project: Project
    started_at: float = field(default_factory=time.monotonic)
    builds: dict[str, "BuildOutcome"] = field(default_factory=dict)
    releases: list[demo_summary.ReleaseSummary] = field(default_factory=list)
    live_release: str = ""  # its id
    rollback: demo_summary.RollbackSummary | None = None
    prompt_tokens: dict[str, float | None] | None = None
    title: str = ""  # of the chapter under way
    _repetition: Repetition = field(default_factory=Repetition)

    @property
    def folder(self) -> Path:
        """Where processes, their logs and the users' traffic are kept."""
        return serving.environment_folder(self.project.environment, self.home)

    @property
    def token(self) -> str:
        """Of the gateway's admin API."""
        return serving.admin_token(self.project.environment, self.home)

    @property
    def elapsed_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.started_at

    def chapter(self, title: str) -> None:
        """A headline with the time so far."""
        self.title = title
        print(f"\n== {self.elapsed_s:4.0f} s  {title}\n", flush=True)

    def tell(self, done: int, total: int, text: str) -> None:
        """Progress of what is no flow; the same again (but for a number) only every ten seconds."""
        if self._repetition.is_due(text, self.elapsed_s):
            print(f"   {self.elapsed_s:4.0f} s  {f'{done}/{total} ' if total else ''}{text}", flush=True)

    def summary(self, peak_rss_gib: float, failure: BaseException | None = None) -> dict[str, Any]:
        """All that is known by now; `failure` is what ended the story in its present chapter."""
        found = demo_summary.summary(
            wall_s=self.elapsed_s,
            peak_rss_gib=peak_rss_gib,
            prompt_tokens=self.prompt_tokens,
            builds=self.builds,
            releases=self.releases,
            rollback=self.rollback,
        )
        why = None if failure is None else str(failure) or type(failure).__name__
        return found | {"failed": why and {"chapter": self.title, "why": why}}


def demo(home: Path) -> str:
    """Runs the story; its summary as text, also in HOME/summary.json. What it started ends with this process at last.

    A story that ends early leaves a summary too: of what there is, with the chapter and the reason under `failed`.
    """
    story = DemoStory(home, load_project(TUTOR))
    demo_home.start_afresh(home, _checks(story), lambda: environment.stop(story.project, home))
    story.folder.mkdir(parents=True, exist_ok=True)
    pids = lambda: [found.pid for name in PROCESSES if (found := processes.find(name, story.folder))]  # noqa: E731
    memory = PeakMemory(pids)
    try:
        with memory:
            _tell(story)
    except BaseException as error:
        print(f"\nwhat there is so far: {demo_summary.write(story.summary(memory.peak_gib, error), home)}", flush=True)
        raise
    found = story.summary(memory.peak_gib)
    return f"{demo_summary.render(found)}\n\nall of it: {demo_summary.write(found, home)}"


def _checks(story: DemoStory) -> Iterator[Precheck]:
    yield from before_up(story.project, story.home)
    for folder in (TUTOR, GIVEAWAY, NEXT):
        yield from before_build(load_project(folder), story.home)


def _tell(story: DemoStory) -> None:
    with ExitStack() as stack:
        story.chapter("in production: the base model with a long Socratic prompt (vLLM, the gateway, Prefect start)")
        server = ExitStack()
        atexit.register(server.close)  # Prefect's last reports are sent before; without it they are tried for a minute
        url = server.enter_context(demo_stage.prefect_server(story.folder, story.tell))
        story.tell(0, 0, f"Prefect's UI: {url}")
        stack.callback(environment.stop, story.project, story.home)
        environment.start(story.project, story.home, story.tell, attached=True)
        _good_release(story)
        _bad_build(story)
        _failing_release(story)
        _manual_rollback(story)
        story.prompt_tokens = demo_summary.prompt_tokens(demo_stage.all_records(story.project, story.token))


def _good_release(story: DemoStory) -> None:
    story.chapter("build: dataset version, LoRA training, evals, bundle")
    built = _build(story, "good", TUTOR)
    _require(built.passed, f"the good build did not pass its gate:\n{built.render()}")
    story.chapter("release: shadow, canary, full, watch, under the traffic of many users")
    outcome = _release(story, "good", built, TUTOR)
    _require(outcome.outcome == "live", f"the good release did not go live: {outcome.reason}")
    story.live_release = outcome.release_id


def _bad_build(story: DemoStory) -> None:
    story.chapter("a bad build: its data gives the answers away, and the eval gate must refuse it")
    built = _build(story, "giveaway", GIVEAWAY)
    story.releases.append(demo_summary.refused(built))
    _require(not built.passed, f"the gate let the bad build through:\n{built.render()}")


def _failing_release(story: DemoStory) -> None:
    story.chapter("a candidate that passes the evals, and whose upstream goes wrong in the middle of its canary")
    built = _build(story, "next", NEXT)
    _require(built.passed, f"the next build did not pass its gate:\n{built.render()}")
    name = adapter_name(story.project.route, built.adapter)
    with demo_stage.failing_upstream(story.project, story.folder, story.token, name) as upstream:
        outcome = _release(story, "next", built, NEXT, upstream)
    _require(outcome.outcome == "rolled_back", f"the failing candidate was not taken back: {outcome.reason}")


def _manual_rollback(story: DemoStory) -> None:
    story.chapter("slipway rollback: the good release back to the prompt-engineered base")
    with demo_stage.traffic(story.project, story.folder, "rollback", rate=RATE, seed=3) as seen:
        took_s = demo_stage.rollback_by_command(story.project, story.home, story.token, story.live_release)
    story.rollback = demo_summary.taken_back(took_s, seen)
    _require_no_failed_user(story, seen)


def _build(story: DemoStory, name: str, folder: Path) -> "BuildOutcome":
    from flows.build import build
    from flows.reporting import result_of

    built = result_of(build(project=str(folder), home=story.home, return_state=True))
    print("\n" + built.render(), flush=True)
    story.builds[name] = built
    return built


def _release(
    story: DemoStory, name: str, built: "BuildOutcome", folder: Path, upstream: str | None = None
) -> "ReleaseOutcome":
    from flows.release import release, render
    from flows.reporting import result_of

    upstreams = [upstream] if upstream else None
    with demo_stage.traffic(story.project, story.folder, name, rate=RATE, seed=len(story.releases)) as seen:
        state = release(
            bundle=built.bundle,
            project=str(folder),
            home=story.home,
            candidate_upstreams=upstreams,
            by="demo",
            return_state=True,
        )
        outcome = result_of(state)
    print("\n" + render(outcome), flush=True)
    story.releases.append(demo_summary.released(outcome, seen))
    _require_no_failed_user(story, seen)
    return outcome


def _require_no_failed_user(story: DemoStory, seen: UsersSeen) -> None:
    left_out = f"; {seen.skipped} more were not sent, so many were under way" if seen.skipped else ""
    story.tell(0, 0, f"users: {seen.requests} requests, {seen.failures} of them failed{left_out}")
    _require(seen.failures == 0, f"{seen.failures} of {seen.requests} users' requests failed: {seen.errors}")


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise SlipwayError(text, cure="this is a defect, or a machine that is much too slow: see the logs in .slipway")
