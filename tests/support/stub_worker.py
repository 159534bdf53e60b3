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
    if order["do"].startswith("fill"):
        fill(spec.parent, order["do"])
    if order["do"] == "wait":
        time.sleep(60)


def fill(folder, how):
    """A disk of less than a megabyte."""
    if how == "fill it with safetensors":
        import numpy
        from safetensors.numpy import save_file

        save_file({"a": numpy.ones(1_000_000, numpy.float32)}, folder / "weights.safetensors")
    try:
        (folder / "file").write_bytes(bytes(1_000_000))
    except OSError:
        if how != "fill it and hide it":
            raise
    raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")  # torch's words for it


if __name__ == "__main__":
    sys.exit(serve(work, "what a stub writes"))
