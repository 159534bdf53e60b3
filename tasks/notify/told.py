"""What is told of things that are no decision of a release's controller: refusals at the door, incidents."""

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.ledger.ledger import Ledger
from delivery.progress import Progress, silent
from delivery.release.messages import ReleaseMessage, letters


def put_in_outbox(
    environment: Environment, ledger: Ledger, message: ReleaseMessage, on_progress: Progress = silent
) -> None:
    """A message that cannot be put on record is said to whoever listens: nothing fails for want of a message."""
    try:
        ledger.outbox.add(letters(environment.notifications, [message]))
    except SlipwayError as error:
        on_progress(0, 0, f"nobody is told of this: {error.what}")
