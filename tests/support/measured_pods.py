"""benchmarks.cluster on the tests' own cluster: three pods with vLLM's stub and three gateways, for figures only.

`PYTHONPATH=.:tests/support python tests/support/measured_pods.py --json PATH [options of benchmarks.cluster]`
"""

import os
import sys
import tempfile
from pathlib import Path

from pulled_world import pulled_world, sign_here
from release_child import TOKEN

from benchmarks.cluster.__main__ import main
from delivery.progress import silent
from tasks.serving import environment

if __name__ == "__main__":
    os.environ["SLIPWAY_ADMIN_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as folder, pulled_world(Path(folder)) as world:
        environment.start(world.project, world.home, silent, attached=True)
        bundle = world.built()
        sign_here(bundle, world.home, world.owner)
        there = ["--project", str(world.project.folder), "--home", str(world.home), "--bundle", bundle.digest]
        there += [word for url in world.users_urls for word in ("--users-url", url)]
        sys.exit(main([*there, *sys.argv[1:]]))
