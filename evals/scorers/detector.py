"""`detector`: the reply does not break a detector of the project's response contract, or one that is written here."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from configs.contract import Contract, Detector, DetectorName
from configs.strict import Strict
from evals.contract import judge as judged
from evals.samples import Reply, Sample
from evals.scorers.score import Score, unless


class DetectorScorer(Strict):
    """1 when the last reply does not break the detector: the gateway will judge it in the same way."""

    name: Literal["detector"]
    detector: DetectorName | Detector = Field(description="its name in contract.yaml, or a detector itself")
    must_end: bool = Field(False, description="a reply that max_tokens cut off breaks it too")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """What the detector cannot tell is not judged."""
        if isinstance(self.detector, str):
            return Score(None, f"no contract has the detector {self.detector!r}")
        breaks = judged(Contract(detectors={"asked": self.detector}), replies[-1].text or "").verdicts.get("asked")
        if breaks is None:
            return Score(None, "the detector cannot tell")
        if not breaks and self.must_end and replies[-1].cut:
            return unless("cut off by max_tokens")
        return unless(f"breaks the detector ({self.detector.kind})" if breaks else "")

    def of(self, contract: Contract | None) -> Self:
        """The same with the contract's detector in the place of its name. Raises ValueError where there is none."""
        if not isinstance(self.detector, str):
            return self
        known = contract.detectors if contract else {}
        if self.detector not in known:
            cure = f"known detectors: {', '.join(sorted(known))}" if known else "write a contract.yaml with it"
            raise ValueError(f"{self.detector!r} names no detector of the contract -> {cure}")
        return self.model_copy(update={"detector": known[self.detector]})
