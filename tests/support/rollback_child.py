"""`slipway rollback` in a process of its own, which kills itself right after its n-th entry in the ledger.

`python rollback_child.py PROJECT_FOLDER HOME N`
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from release_scene import Noticed

from configs.project import load_project
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of


def main(folder: str, home: str, entries: str) -> None:
    seen = 0

    def count(effect: str) -> None:
        nonlocal seen
        seen += 1
        if seen >= int(entries):
            os.kill(os.getpid(), signal.SIGKILL)

    Noticed.on_record = staticmethod(count)
    project = load_project(Path(folder))
    with open_site_of(project, Path(home)) as site:
        site = replace(site, ledger=Noticed(site.ledger.url))
        rollback(site, project.route, by="ann", reason="complaints")


if __name__ == "__main__":
    main(*sys.argv[1:])
