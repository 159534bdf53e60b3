"""Whether the bundle that one environment serves may go on to the next one: both ledgers read, nothing changed."""

from configs.canonical import short
from configs.gitops import PromotionRules
from configs.project import Project
from delivery.build.bundle import Bundle
from delivery.clients.ledger.ledger import Ledger
from delivery.release.promotion import Lived, Promotion, PromotionGate, promotion


def may_be_promoted(before: tuple[Project, Ledger], after: tuple[Project, Ledger], now: float) -> Promotion:
    """By what environment.yaml of the next environment asks for (`gitops.promotion`; by default nothing but no fault).

    `before` and `after`: the same route's project and ledger in each environment.
    """
    gitops = after[0].environment.gitops
    rules = gitops.promotion if gitops is not None else PromotionRules()
    first, second = lived(*before), lived(*after)
    bundle = before[1].bundle(first.live) if first.live else None
    return promotion(first, second, rules.soak_s, gates(rules, bundle), now)


def lived(project: Project, ledger: Ledger) -> Lived:
    """What a ledger says of the project's route."""
    environment, route = project.environment.name, project.route
    pointers = ledger.route(environment, route)
    live = pointers.live.bundle if pointers is not None else ""
    rows = ledger.releases(environment, route, 1000)
    under_way = ledger.unfinished(environment, route)
    bundles = dict.fromkeys(row["bundle"] for row in rows)
    return Lived(
        environment=environment,
        live=live,
        since=next((row["updated_at"] for row in rows if row["bundle"] == live and row["phase"] == "live"), None),
        under_way=under_way.release_id if under_way is not None else "",
        taken_back=tuple(row["bundle"] for row in rows if row["phase"] in ("rolling_back", "rolled_back")),
        quarantined=tuple(one for one in dict.fromkeys((*bundles, live)) if one and ledger.quarantined(one)),
    )


def gates(rules: PromotionRules, bundle: Bundle | None) -> list[PromotionGate]:
    """The scores that the next environment asks for. A suite that the bundle was not judged by does not pass."""
    found = []
    for suite, least in sorted(rules.least_scores.items()):
        score = bundle.evals.get(suite) if bundle is not None else None
        if score is None or score.score is None:
            found.append(
                PromotionGate(name=suite, passed=False, reason=f"the bundle has no score, {least:g} is asked for")
            )
            continue
        passed = score.score >= least
        found.append(PromotionGate(name=suite, passed=passed, reason=f"scored {score.score:g}, {least:g} is asked for"))
    return found


def render(found: Promotion, folder: str) -> str:
    """The verdict, why, and what to do."""
    next_step = f"\nslipway release {short(found.bundle)} --project {folder}" if found.standing == "promote" else ""
    lines = [f"{found.standing.replace('_', ' ')} {found.bundle}".strip(), *(f"  {reason}" for reason in found.reasons)]
    return "\n".join(lines) + next_step
