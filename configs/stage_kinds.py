"""Every kind of stage that a plan may have: one table, which plans, checks, forecasts, replays and releases read.

A new kind is one row of STAGE_KINDS, at its place in the order of a release, and its name in KindName. One that serves
as none does yet is more: `verdicts`, `forecast`, `replay` and `routes` have to know how many requests it gets.
"""

from dataclasses import dataclass
from typing import Literal

KindName = Literal["shadow", "canary", "full", "watch"]
Serves = Literal["nobody", "a share", "everybody"]


@dataclass(frozen=True)
class StageKind:
    """`serves`: whose requests the candidate answers, from which all else about a stage follows.

    nobody: it gets copies of `mirror_bp` of stable's requests, and no user sees its answers. a share: `share_bp` of the
    users are its own, the others stable's. everybody: it is live, and who is held back alone has its predecessor.
    """

    name: KindName
    serves: Serves
    needed: Literal["any", "at least one", "one", "at most one"] = "any"  # how many of them a plan has
    is_last_share: bool = False  # whoever it leaves on stable is held back there after the commit

    @property
    def commits(self) -> bool:
        """Whether entering it makes the candidate live."""
        return self.serves == "everybody"

    @property
    def has_pairs(self) -> bool:
        """Whether a request has two answers, so that pairs are compared, and a judge may be asked about them."""
        return self.serves == "nobody"

    @property
    def assigns_users(self) -> bool:
        """Whether a user's key decides who answers."""
        return self.serves == "a share"

    @property
    def role(self) -> Literal["mirror", "served"]:
        """What the records of the candidate's answers call them, by whether users see them."""
        return "mirror" if self.serves == "nobody" else "served"

    @property
    def compares_with_the_last(self) -> bool:
        """Whether stable has only those users beside it whom the last share left there."""
        return self.is_last_share or self.commits

    @property
    def share_means(self) -> str:
        """What the percentage beside its name is: `20 % of users`."""
        return {"nobody": "mirrored", "a share": "of users", "everybody": "held back"}[self.serves]

    def may_be(self, times: int) -> bool:
        """Whether a plan may have so many of them."""
        return {"any": True, "at least one": times >= 1, "one": times == 1, "at most one": times <= 1}[self.needed]


STAGE_KINDS = (
    StageKind("shadow", serves="nobody"),
    StageKind("canary", serves="a share", needed="at least one"),
    StageKind("full", serves="a share", needed="one", is_last_share=True),
    StageKind("watch", serves="everybody", needed="at most one"),
)
BY_NAME = {kind.name: kind for kind in STAGE_KINDS}
