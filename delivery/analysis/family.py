"""Several checks under one error budget, and promotion.

Fail: the weighted mean of the checks' E-values reaches 1/alpha. A weighted mean of E-values is an E-value whatever
their dependence (Vovk, Wang: E-values: calibration, combination and applications, Annals of Statistics 49, 2021), so a
release of an equal candidate is ever rolled back with a probability of at most alpha in all, not alpha per check.

Promotion: the E-value against the reverse null reaches 1/alpha for every gating check. Promoting wrongly needs each of
them to err, so none has to share its alpha; and without evidence nothing is promoted.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from configs.strict import Strict
from delivery.analysis.one_sample import OneSample
from delivery.analysis.quantiles import RelativeQuantile
from delivery.analysis.ranks import Typical
from delivery.analysis.two_sample import TwoSample

TestProcess = Annotated[TwoSample | OneSample | RelativeQuantile | Typical, Field(discriminator="kind")]


def core(process: TestProcess) -> TwoSample | OneSample:
    """The test inside: that of the exceedances of a quantile, or of the mean of ranks."""
    match process:
        case RelativeQuantile():
            return process.rate
        case Typical():
            return process.mean
        case _:
            return process


class FamilyMember(Strict):
    """One check of the family, with its evidence that the candidate is worse than its limit."""

    name: str
    e_value: float = Field(ge=0)
    stable_e_value: float = Field(1.0, ge=0, description="absolute limits: the same evidence about stable")
    weight: float = Field(1.0, gt=0)


class Failure(Strict):
    """What all checks say together. `e_value` reaches `needed` or it does not."""

    failed: bool
    e_value: float
    needed: float
    blamed: tuple[str, ...]  # of a failure: the checks that would do alone, or else the strongest
    shared: tuple[str, ...]  # checks whose limit stable breaches as well: no reason to blame the candidate


def fails(members: Sequence[FamilyMember], alpha: float) -> Failure:
    """Whether the candidate is shown to be worse. Checks in a shared incident count nothing, but keep their weight."""
    needed, total = 1 / alpha, sum(member.weight for member in members)
    shared = tuple(member.name for member in members if member.stable_e_value >= needed)
    guilty = [member for member in members if member.name not in shared]
    parts = {member.name: member.weight / total * member.e_value for member in guilty}
    together = sum(parts.values())
    strongest = sorted(parts, key=lambda name: -parts[name])
    blamed = tuple(name for name in strongest if parts[name] >= needed) or tuple(strongest[:1])
    failed = bool(parts) and together >= needed
    return Failure(failed=failed, e_value=together, needed=needed, blamed=blamed if failed else (), shared=shared)


def unproven(better: Mapping[str, float], alpha: float) -> tuple[str, ...]:
    """The gating checks whose E-value against the reverse null has not reached 1/alpha; none: promote."""
    return tuple(name for name, value in better.items() if value < 1 / alpha)
