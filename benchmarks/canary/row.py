"""One line of the table: a promise, its target, and what a simulation shows."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TableRow:
    """`others` are the rivals' shares of rolled-back runs on the same streams; a target of None is none."""

    case: str
    what: str
    target: float | None
    direction: Literal["at most", "at least"]
    measured: float
    runs: int
    detail: str = ""
    others: dict[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()  # candidate requests until the rollback of 1 %, 2 %, ... 99 % of the runs

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.measured <= self.target if self.direction == "at most" else self.measured >= self.target

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {**vars(self), "met": self.met}

    def as_line(self) -> str:
        """For the terminal."""
        verdict = {True: "met", False: "MISSED", None: "-"}[self.met]
        target = "" if self.target is None else f"{self.direction} {self.target:g}"
        text = f"{self.case:<52} {self.what:<18} {target:>13} {self.measured:>9.4g}  {verdict:<6} {self.detail}"
        return "\n".join([text, *(f"{'':>6}{name}: {share:.3f}" for name, share in self.others.items())])
