"""A budget that refills evenly: a token bucket, as pure arithmetic on a clock that is passed in.

It is kept as one moment, that at which everything will have refilled (the generic cell rate algorithm's): spending puts
it off, and nothing needs to be done as time passes.
"""

from dataclasses import dataclass

ROUNDING_S = 1e-6  # nobody is made to wait for less, which is no more than what adding and subtracting times leaves


@dataclass(slots=True)
class Budget:
    """`capacity` may be spent at once, and is there again after `refill_s` seconds. A debt is paid off first."""

    capacity: float
    refill_s: float
    full_at: float  # on the caller's clock

    @classmethod
    def full(cls, capacity: float, refill_s: float, now: float) -> "Budget":
        """One that nobody has spent from."""
        return cls(capacity, refill_s, now)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until this amount (at most the capacity) is there; 0 if it is."""
        missing_s = self.full_at - now - self.refill_s + amount * self.refill_s / self.capacity
        return missing_s if missing_s > ROUNDING_S else 0.0

    def whole(self, now: float) -> int:
        """How many whole ones are there."""
        return max(0, int(self.capacity - self.spent(now + ROUNDING_S)))

    def spend(self, amount: float, now: float) -> None:
        """Takes the amount, into debt if need be."""
        since = self.full_at if self.full_at > now else now
        self.full_at = since + amount * self.refill_s / self.capacity

    def put_back(self, amount: float, now: float) -> None:
        """The amount was taken, and not needed."""
        self.spend(-amount, now)

    def spent(self, now: float) -> float:
        """What is missing to the full budget, debts included."""
        return max(0.0, self.full_at - now) * self.capacity / self.refill_s

    def resized(self, capacity: float, now: float) -> "Budget":
        """With another capacity; what was spent stays spent."""
        return Budget(capacity, self.refill_s, now + self.spent(now) * self.refill_s / capacity)
