"""A release's steps as commits: forward, Git first and users after it; back, users first and Git after it."""

from collections.abc import Mapping
from dataclasses import dataclass

from configs.canonical import short
from configs.errors import SlipwayError
from configs.gitops import ChartAdapter, ChartRoute
from configs.routing import Route
from delivery.clients.bundles.images import read_bundle
from delivery.clients.git import RELEASE, REVERTS, GitRepository
from delivery.release.routes import alone
from delivery.release.state import Decision, ReleaseState
from tasks.release.site import Site
from tasks.serving.gitops.steps import chart_route, message, started, stepped, subject, with_adapters, with_default

BACK = ("rolling_back", "rolled_back")
BEFORE = "This is what is served before the release of"


@dataclass
class InGit:
    """What an environment's file in Git says of one release. Without `gitops` in environment.yaml it does nothing."""

    site: Site
    _said: ChartRoute | None = None  # what the file says, as far as this process knows
    _owed: tuple[Decision, Route] | None = None  # users have it already, and Git does not
    _began: bool = False
    _is_back: bool = False

    def before(self, decision: Decision, route: Route) -> str:
        """Commits a step forward; why it could not, so that users must not get it yet. A way back never waits."""
        if self.site.environment.gitops is None or decision.state.phase in BACK:
            return ""
        if decision.state.suspended:
            self._owed = (decision, route)
            return ""
        self._owed = None
        try:
            self._commit(decision, route)
        except SlipwayError as error:
            return f"users stay where they are, because the step is not in Git: {error}"
        return ""

    def after(self, decision: Decision) -> str:
        """Commits what users have already; why it could not. Asked again, it tries again."""
        if self.site.environment.gitops is None:
            return ""
        state = decision.state
        if state.phase in BACK and not self._is_back:  # somebody may have moved the users without us
            self._is_back = True
            self._owed = (decision, alone(state.stable, state.release_id, ""))
        if self._owed is None:
            return ""
        try:
            decision, route = self._owed
            if decision.state.phase in BACK:
                self._take_back(decision, route)
            else:
                self._commit(decision, route)
        except SlipwayError as error:
            return f"users are on stable already, and Git does not say so yet: {error}"
        self._owed = None
        return ""

    def _commit(self, decision: Decision, route: Route) -> None:
        state, file = decision.state, self._file()
        wanted = self._wanted(state, route)
        if wanted == self._said:
            return
        text = message(subject(state.route, wanted, state.candidate.bundle), decision, RELEASE)
        adapters = self._adapters(state)
        self._start(state, adapters)
        self._repository().change(file, lambda there: stepped(there, state.route, wanted, adapters), text)
        self._said = wanted

    def _start(self, state: ReleaseState, adapters: Mapping[str, ChartAdapter]) -> None:
        """What is served before the release, and its adapters loaded: a revert leads back to that."""
        if self._began:
            return
        before = self._wanted(state, alone(state.stable, state.release_id, ""))
        title = subject(state.route, before, state.stable.bundle)
        why = f"{BEFORE} {short(state.candidate.bundle)}, whose adapter is loaded from here on."
        self._repository().change(
            self._file(), lambda there: started(there, state.route, before, adapters), f"{title}\n\n{why}"
        )
        self._began = True

    def _take_back(self, decision: Decision, route: Route) -> None:
        """As it was before the release; where something else is to be served, such as the base model, that."""
        state, repository, file = decision.state, self._repository(), self._file()
        wanted = self._wanted(state, route)
        if wanted == self._said:
            return
        text = message(f"{state.route}: take back release {state.release_id}"[:72], decision, REVERTS)
        adapters = self._adapters(state)
        repository.revert(file, state.release_id, text, lambda there: with_adapters(there, adapters))
        title = subject(state.route, wanted, state.candidate.bundle)
        text = message(title, decision, REVERTS)
        repository.change(file, lambda there: with_default(there, state.route, wanted.default), text)
        self._said = wanted

    def _wanted(self, state: ReleaseState, route: Route) -> ChartRoute:
        base = self.site.require_route(state.route).base
        return chart_route(route, state.release_id, base, base.variant.model)

    def _adapters(self, state: ReleaseState) -> dict[str, ChartAdapter]:
        found = {}
        for served in (state.stable, state.candidate):
            if served.adapter_path is not None:
                bundle = read_bundle(self.site.home, served.bundle)
                if bundle.adapter is not None:
                    found[served.variant.model] = ChartAdapter(digest=bundle.adapter.digest, bundle=served.bundle)
        return found

    def _repository(self) -> GitRepository:
        said = self.site.environment.gitops
        assert said is not None  # noqa: S101 - asked for only where it is there
        return GitRepository(said.repository, said.branch)

    def _file(self) -> str:
        said = self.site.environment.gitops
        assert said is not None  # noqa: S101
        return said.file
