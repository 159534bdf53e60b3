"""The one error that users are meant to read: what happened, where, and what to do about it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

UNSAID = "unsaid_input"  # pydantic's type of errors whose input is never repeated


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, at one place."""

    where: str  # file, and field or row: "configs/tutor/training.yaml: lora.rank"
    what: str  # with the value that was found
    cure: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n    -> {self.cure}" if self.cure else text


class SlipwayError(Exception):
    """Bad input or a broken surrounding; the command line prints it without a traceback and exits with 2.

    A bug is not a SlipwayError: it keeps its traceback.
    """

    def __init__(self, what: str, *, where: str = "", cure: str = "", problems: Sequence[Problem] = ()):
        self.what = what
        self.where = where
        self.cure = cure
        self.problems = tuple(problems)
        super().__init__(self.render())

    def render(self) -> str:
        """Everything on a few lines: the message, where, each problem, the cure."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        lines += ["  " + str(problem).replace("\n", "\n  ") for problem in self.problems]
        if self.cure:
            lines.append(f"  cure: {self.cure}")
        return "\n".join(lines)

    def as_problems(self) -> tuple[Problem, ...]:
        """For a list of several errors: its own problems, or the one that it is."""
        return self.problems or (Problem(self.where, self.what, self.cure),)

    def __reduce__(self) -> tuple[object, ...]:  # Prefect pickles exceptions across processes
        return _rebuild, (type(self), self.what, self.where, self.cure, self.problems)


def _rebuild(kind: type[SlipwayError], what: str, where: str, cure: str, problems: tuple[Problem, ...]) -> SlipwayError:
    return kind(what, where=where, cure=cure, problems=problems)


class ConfigError(SlipwayError):
    """One or several settings are wrong; all of them are listed."""


def require_all(what: str, checks: Iterable[Callable[[], object]]) -> None:
    """Runs every check; raises what the only one that fails raises, or one SlipwayError with all of the problems."""
    failed: list[SlipwayError] = []
    for check in checks:
        try:
            check()
        except SlipwayError as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        problems = tuple(dict.fromkeys(problem for error in failed for problem in error.as_problems()))
        raise SlipwayError(f"{what}: {len(problems)} problem(s)", problems=problems)
