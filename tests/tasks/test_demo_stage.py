"""What the demo puts around the product answers whatever the surroundings are."""

from dataclasses import replace
from pathlib import Path

import httpx

from configs.environment import GatewayConfig
from configs.project import load_project
from delivery.clients.ports import free_ports
from tasks.demo_stage import failing_upstream


def test_the_failing_upstream_starts_beside_a_dead_proxy(tmp_path: Path, dead_proxy: None) -> None:
    tutor = load_project(Path("configs/tutor"))
    gateway, admin = free_ports(2)
    nobody = tutor.environment.model_copy(update={"gateway": GatewayConfig(port=gateway, admin_port=admin)})
    with failing_upstream(replace(tutor, environment=nobody), tmp_path, "token", "model") as url:
        assert httpx.get(f"{url}/health", trust_env=False).is_success
