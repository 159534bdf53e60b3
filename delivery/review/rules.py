"""Who may do what with an item, what comes of it, and which items a person sees next. Reasons are return values."""

from collections.abc import Iterable, Sequence

from configs.review import Review, person_key
from delivery.review.items import Item, ReviewerVerdict, Status


def why_no_reviewer(person: str, rules: Review) -> str:
    """Why this person reviews nothing at all here; empty when they may."""
    if not person_key(person):
        return "an item is taken by somebody with a name"
    if rules.people and person_key(person) not in map(person_key, rules.people):
        return f"{person} is not among the people of the recipe: {', '.join(rules.people)}"
    return ""


def why_not_take(item: Item, person: str, rules: Review, now: float) -> str:
    """Why this person cannot take the item to work on it; empty when they can."""
    refused = why_no_reviewer(person, rules)
    if refused:
        return refused
    if item.status != "open":
        return f"it is {item.status}"
    if item.lease_owner and not is_theirs(item, person) and now < item.lease_until:
        return f"{item.lease_owner} works on it for another {item.lease_until - now:.0f} s at most"
    return ""


def why_not_act(item: Item, person: str, rules: Review, now: float) -> str:
    """Why this person cannot rewrite, label or judge it; empty when they can.

    Whoever acts has taken the item, so that they saw its text as it is now. A lease that has ended counts as long as
    nobody else took the item: nothing has changed since.
    """
    refused = why_not_take(item, person, rules, now)
    if not refused and not is_theirs(item, person):
        refused = "you have not taken it, or somebody took it after you and its text may be another now"
    return refused


def why_not_judge(item: Item, person: str, approved: bool, rules: Review, now: float) -> str:
    """Why this person cannot approve (or reject) the text as it is; empty when they can."""
    if item.status == "open" and has_judged(item, person):
        return f"{person} has judged this text already, and somebody else is needed"
    if item.status == "open" and approved and rules.own_rewrites == "refuse" and wrote(item, person):
        return f"{person} wrote this answer, and nobody approves their own rewrite (review.own_rewrites: refuse)"
    return why_not_act(item, person, rules, now)


def outcome(verdicts: Sequence[ReviewerVerdict], rules: Review) -> Status:
    """Approved or rejected once as many people as the recipe asks for say so; when two disagree a third decides."""
    said = {person_key(one.by): one.approved for one in verdicts}
    if sum(said.values()) >= rules.reviewers:
        return "approved"
    return "rejected" if sum(not one for one in said.values()) >= rules.reviewers else "open"


def choose(items: Iterable[Item], person: str, rules: Review, now: float, count: int = 1) -> list[Item]:
    """What this person does next, best first: what they have in hand, then by kind and age what they can decide."""
    mine = [one for one in items if not why_not_take(one, person, rules, now) and is_for(one, person, rules, now)]
    return sorted(mine, key=lambda one: (not in_hand(one, person, now), one.order))[:count]


def is_for(item: Item, person: str, rules: Review, now: float) -> bool:
    """Whether it waits for this very person: it is in their hand, or they have neither judged nor written it."""
    own = rules.own_rewrites == "refuse" and wrote(item, person)
    return in_hand(item, person, now) or not (has_judged(item, person) or own)


def in_hand(item: Item, person: str, now: float) -> bool:
    """Whether this person has taken it, and has it still."""
    return is_theirs(item, person) and now < item.lease_until


def is_theirs(item: Item, person: str) -> bool:
    """Whether this person was the last to take it."""
    return bool(item.lease_owner) and person_key(item.lease_owner) == person_key(person)


def has_judged(item: Item, person: str) -> bool:
    """Whether this person has judged the text as it is now."""
    return person_key(person) in {person_key(one.by) for one in item.verdicts}


def wrote(item: Item, person: str) -> bool:
    """Whether the text as it is now is this person's."""
    return item.rewritten_by is not None and person_key(item.rewritten_by) == person_key(person)
