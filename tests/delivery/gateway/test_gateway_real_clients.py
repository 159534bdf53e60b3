"""Whole client libraries against a real gateway: what they print is the same, whichever library and API it is."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from client_upstream import SAID, acts
from gateway_world import World, eventually, table_for
from places import ROOT

pytestmark = pytest.mark.live

CLIENTS = ROOT / "tests" / "clients"
OTHERS = ROOT / ".venv-clients" / "bin" / "python"
KEY, USED_UP = "sk-ada-0123456789", "sk-bob-0123456789"
WEATHER = {"name": "weather", "arguments": {"city": "Rome"}}
EXPECTED = {
    "plain": SAID,
    "streamed": SAID,
    "tokens": 14,
    "tool": WEATHER,
    "streamed_tool": WEATHER,
    "after_tool": SAID,
    "json": {"answer": 4},
    "errors": {"wrong_key": 401, "no_model": 404, "used_up": {"status": 429, "retry_after": "60"}},
    "aborted_after": "two ",
}


def command(script: str) -> list[str]:
    """How this client is run; skips the test where it is not there."""
    if script.endswith(".mjs"):
        if (node := shutil.which("node")) is None:
            pytest.skip("node is not installed: the clients in JavaScript are not tried")
        if not (CLIENTS / "node_modules" / ".ready").exists():
            pytest.skip(
                "tests/clients/node_modules is not there -> run `make clients`, which needs npm and its registry"
            )
        return [node, script]
    if script == "with_openai.py":
        return [sys.executable, script]
    if not OTHERS.exists():
        pytest.skip(".venv-clients is not there -> run `make clients`")
    return [str(OTHERS), script]


def entry(name: str, key: str, **limits: Any) -> dict[str, Any]:
    return {"name": name, "sha256": [hashlib.sha256(key.encode()).hexdigest()], **limits}


@pytest.mark.parametrize(
    "script", ["with_openai.py", "with_litellm.py", "with_langchain.py", "with_openai.mjs", "with_ai.mjs"]
)
def test_a_real_client_gets_what_it_asks_for(world: World, tmp_path: Path, script: str) -> None:
    run = command(script)
    stub = world.upstream(**{"old-model": acts})
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [entry("ada", KEY), entry("bob", USED_UP, requests_per_minute=1)]}))
    running = world.gateway(api_keys=keys)
    running.admin.put_table(table_for(stub.url))
    spent = running.http.post(
        "/v1/chat/completions",
        json={"model": "tutor", "messages": [{"role": "user", "content": "Hi"}]},
        headers={"Authorization": f"Bearer {USED_UP}"},
    )
    assert spent.status_code == 200
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GATEWAY_URL": running.url,
        "GATEWAY_KEY": KEY,
        "GATEWAY_USED_UP_KEY": USED_UP,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched
        "LANGSMITH_TRACING": "false",
    }
    done = subprocess.run(run, cwd=CLIENTS, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chat"] == EXPECTED
    assert found["responses"] == EXPECTED
    eventually(lambda: stub.abandoned == 2)
    running.wait_for_records(len(stub.seen))  # what a client left is on record a moment after it is given up
    streamed = Counter(seen.path for seen in stub.seen if seen.body.get("stream"))
    assert streamed == {"/v1/chat/completions": 3, "/v1/responses": 3}
    errors = [record.error for record in running.records()]
    assert sorted(filter(None, errors)) == ["client_closed"] * 2
