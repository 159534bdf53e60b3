"""How long it is until a release may begin, by the plan's release hours."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from configs.release_hours import DAYS, ReleaseHours


def seconds_until_open(hours: ReleaseHours | None, now: float) -> float:
    """0 while they are open, and without any. `now` is UNIX seconds; clocks that are put forward or back are heeded."""
    if hours is None:
        return 0.0
    zone = ZoneInfo(hours.timezone)
    today = datetime.fromtimestamp(now, zone).date()
    waits = []
    for offset in range(-1, 9):
        day = today + timedelta(days=offset)
        if DAYS[day.weekday()] not in hours.days:
            continue
        last = day if hours.closes > hours.opens else day + timedelta(days=1)
        opens = datetime.combine(day, hours.opens, zone).timestamp()
        closes = datetime.combine(last, hours.closes, zone).timestamp()
        if now < closes:
            waits.append(max(opens - now, 0.0))
    return min(waits)
