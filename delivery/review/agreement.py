"""How far two people agree who judged the same texts, without what they would agree on by chance alone."""

from collections.abc import Sequence

from configs.strict import Strict


class Agreement(Strict):
    """Of the first two verdicts on each text that two people judged."""

    n: int  # texts
    agreed: int
    kappa: float | None  # Cohen's, from -1 to 1; None: it is not defined

    def render(self) -> str:
        """One sentence for people."""
        if self.n == 0:
            return "texts that two people judged: none"
        told = f"texts that two people judged: {self.n}, and they agreed on {self.agreed}"
        kappa = "not defined while all verdicts are the same" if self.kappa is None else f"{self.kappa:.2f}"
        return f"{told}; Cohen's kappa: {kappa}"


def agreement(pairs: Sequence[tuple[bool, bool]]) -> Agreement:
    """Of the verdicts (approved or not) of a first and a second person on each text (Cohen 1960)."""
    agreed = sum(first == second for first, second in pairs)
    if len({verdict for pair in pairs for verdict in pair}) < 2:
        return Agreement(n=len(pairs), agreed=agreed, kappa=None)
    n = len(pairs)
    first, second = (sum(verdicts) / n for verdicts in zip(*pairs, strict=True))
    by_chance = first * second + (1 - first) * (1 - second)
    return Agreement(n=n, agreed=agreed, kappa=(agreed / n - by_chance) / (1 - by_chance))
