"""What flows show is self-contained."""

import base64
import re
from pathlib import Path

from flows.reporting import picture, slug


def test_a_picture_is_in_the_page_itself(tmp_path: Path) -> None:
    file = tmp_path / "curve.png"
    file.write_bytes(bytes(range(256)))
    found = re.fullmatch(r"!\[loss curve\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", picture(file, "loss curve"))
    assert found is not None
    assert base64.b64decode(found[1]) == file.read_bytes()


def test_a_key_holds_what_prefect_allows() -> None:
    assert slug("release tutor-20261122T0314 (base)") == "release-tutor-20261122t0314-base"
