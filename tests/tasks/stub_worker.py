"""A child for the tests of tasks.child: does what its spec, a small JSON, tells it."""

import json
import os
import sys
import time

from configs.errors import Problem, SlipwayError
from tasks.child import serve


def work(spec, report):
    order = json.loads(spec.read_text())
    report({"event": "pid", "pid": os.getpid()})
    print("a library prints this")
    if order["do"] == "refuse":
        raise SlipwayError("no", where="there", cure="try", problems=[Problem("a", "b", "c")])
    if order["do"] == "crash":
        raise RuntimeError("a bug")
    if order["do"] == "fill the disk":
        raise OSError(28, "No space left on device")
    if order["do"] == "wait":
        time.sleep(60)


if __name__ == "__main__":
    sys.exit(serve(work))
