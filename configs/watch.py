"""What a watch of the live bundle may be asked for, by the command line, Prefect's form and a program alike."""

from configs.errors import SlipwayError

SHORTEST_S, LONGEST_S = 1.0, 2_592_000.0  # a second, thirty days
LARGEST_HOLDBACK_BP = 5000  # more users on the previous bundle would be a rollback by another name


def require_watch(duration_s: float, holdback_bp: int) -> None:
    """Raises SlipwayError for what would be no watch, before any of it is on record."""
    if not SHORTEST_S <= duration_s <= LONGEST_S:  # also for "not a number"
        raise SlipwayError(
            f"a watch lasts {SHORTEST_S:g} to {LONGEST_S:g} seconds, found {duration_s:g}",
            where="duration_s",
            cure="give it a length, e.g. an hour: --duration-s 3600",
        )
    if not 0 <= holdback_bp <= LARGEST_HOLDBACK_BP:
        raise SlipwayError(
            f"0 to {LARGEST_HOLDBACK_BP} basis points of the users may be held back, found {holdback_bp}",
            where="holdback_bp",
            cure="100 basis points are 1 % of the users: --holdback-bp 500 holds 5 % back",
        )
