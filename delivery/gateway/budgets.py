"""A budget that refills evenly: a token bucket, as pure arithmetic on a clock that is passed in."""

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """`capacity` may be spent at once, and is there again after `refill_s` seconds. A debt is paid off first."""

    capacity: float
    refill_s: float
    level: float
    at: float

    @classmethod
    def full(cls, capacity: float, refill_s: float, now: float) -> "Budget":
        """One that nobody has spent from."""
        return cls(capacity, refill_s, capacity, now)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until this amount (at most the capacity) is there; 0 if it is."""
        self._refill(now)
        return max(0.0, amount - self.level) * self.refill_s / self.capacity

    def spend(self, amount: float, now: float) -> None:
        """Takes the amount, into debt if need be."""
        self._refill(now)
        self.level -= amount

    def put_back(self, amount: float, now: float) -> None:
        """The amount was taken, and not needed."""
        self._refill(now)
        self.level = min(self.capacity, self.level + amount)

    def spent(self, now: float) -> float:
        """What is missing to the full budget, debts included."""
        self._refill(now)
        return self.capacity - self.level

    def resized(self, capacity: float, now: float) -> "Budget":
        """With another capacity; what was spent stays spent."""
        self._refill(now)
        return Budget(capacity, self.refill_s, min(capacity, capacity - (self.capacity - self.level)), now)

    def _refill(self, now: float) -> None:
        elapsed = max(0.0, now - self.at)
        self.level = min(self.capacity, self.level + elapsed * self.capacity / self.refill_s)
        self.at = now
