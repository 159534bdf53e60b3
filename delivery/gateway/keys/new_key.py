"""`python -m delivery.gateway.keys.new_key NAME`: makes an API key, and the entry for the file of keys."""

import argparse
import hashlib
import secrets
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the key, which is kept nowhere, to stderr, and its entry to stdout."""
    parser = argparse.ArgumentParser(prog="python -m delivery.gateway.keys.new_key", description=__doc__)
    parser.add_argument("name", help="the client's, e.g. class-7b")
    name = parser.parse_args(argv).name
    key = "sk-" + secrets.token_urlsafe(32)
    print(f"the key, shown only now: {key}", file=sys.stderr)
    print(f"  - name: {name}\n    sha256: [{hashlib.sha256(key.encode()).hexdigest()}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
