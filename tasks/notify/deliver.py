"""Tells whoever asks what each receiver answers: to a test message, or to everything that waits."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from configs.environment import Environment
from configs.errors import SlipwayError
from configs.notifications import Notifications
from delivery.clients.at_once import at_once
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.ledger.outbox import Waiting
from delivery.release.messages import of_test
from tasks.notify.courier import Courier
from tasks.notify.direct import Direct
from tasks.notify.receivers import senders

TEST_S = 60.0  # a mail server is asked in several steps, each of which may take ten seconds


@dataclass(frozen=True)
class Answer:
    """What a receiver said; None: nothing so far."""

    receiver: str
    title: str
    said: str | SlipwayError | None

    @property
    def ok(self) -> bool:
        """Whether it took the message."""
        return isinstance(self.said, str)


def require_receivers(environment: Environment, wanted: Iterable[str] = ()) -> Notifications:
    """Those of `wanted`, or all. SlipwayError: there is none, or none of this name."""
    known = environment.notifications
    if not known:
        raise SlipwayError(
            "nobody is to be told of anything",
            where="environment.yaml: notifications",
            cure="name receivers there: a webhook, slack, teams, email, prefect",
        )
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise SlipwayError(
            f"no receiver is called {', '.join(missing)}",
            where="environment.yaml: notifications",
            cure=f"one of {', '.join(known)}",
        )
    return {name: known[name] for name in wanted or known}


def send_test(environment: Environment, route: str, wanted: Iterable[str], by: str) -> list[Answer]:
    """Sends everybody a test message, whatever they want to be told; needs no ledger."""
    chosen = require_receivers(environment, wanted)
    message, direct = of_test(environment.name, route, by, time.time()), Direct(chosen)
    direct.tell([message], everybody=True)
    direct.wait(TEST_S)
    answers = direct.answers(message)
    return [Answer(name, message.title, answers.get(name)) for name in chosen]


def deliver_waiting(environment: Environment, ledger: Ledger, wanted: Iterable[str]) -> list[Answer]:
    """Tries all that waits now, also what would be tried later; receivers side by side, messages in their order."""
    chosen = require_receivers(environment, wanted)
    now = time.time()
    courier = Courier(environment.name, ledger, senders(chosen))
    waiting = [one for one in ledger.outbox.waiting(environment.name) if not one.is_being_tried(now)]
    calls = {
        name: lambda name=name: _deliver(courier, [one for one in waiting if one.receiver == name]) for name in chosen
    }
    found: list[Answer] = []
    for name, answers in at_once(calls).items():
        found += answers if isinstance(answers, list) else [Answer(name, "", answers)]
    return found


def _deliver(courier: Courier, waiting: list[Waiting]) -> list[Answer]:
    found = []
    for one in waiting:
        said = courier.deliver(one)
        if said is not None:
            found.append(Answer(one.receiver, one.message.title, said))
    return found
