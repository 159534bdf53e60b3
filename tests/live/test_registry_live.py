"""Bundles to and from a real registry, Debian's, by the real commands: with TLS and a login, and with neither."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from debian_registry import PASSWORD, USER, DebianRegistry, debian_registry
from places import ROOT
from signed_bundles import Owner, key_owner, make_bundle

from delivery.clients.bundles.images import list_bundles, read_bundle
from delivery.clients.bundles.layout import index_digest

pytestmark = pytest.mark.live


GUARDED, OPEN = "TLS and a login", "neither"


@pytest.fixture(scope="module", params=[GUARDED, OPEN])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    guarded = request.param == GUARDED
    with debian_registry(tmp_path_factory.mktemp("registry") / "registry", guarded=guarded) as found:
        yield found


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return key_owner(tmp_path)


@pytest.fixture
def project(tmp_path: Path, registry: DebianRegistry, owner: Owner) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "project.yaml").write_text(yaml.safe_dump({"extends": str(ROOT / "configs/tutor"), "route": "tutor"}))
    signers = {"release-team": {"public_key": owner.signer.public_key, "routes": ["tutor"]}}
    environment = {
        "registry": {"repository": f"{registry.host}/dev/adapters"},
        "signatures": {"required": True, "signers": signers, "sign_with": {"private_key": str(owner.key.private_key)}},
    }
    if registry.ca_file:
        environment["registry"]["ca_file"] = str(registry.ca_file)
    (folder / "environment.yaml").write_text(yaml.safe_dump(environment))
    return folder


def slipway(
    registry: DebianRegistry, project: Path, home: Path, *words: str, **more: str
) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    command = [sys.executable, "-m", "flows.cli.main", *words, "--project", project, "--home", home]
    environ = known | registry.login | more
    return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_bundle_goes_from_one_repository_to_the_next_and_is_verified(registry, project, tmp_path):
    bundle, layout = make_bundle(tmp_path / "home")
    first = slipway(registry, project, tmp_path / "home", "push", bundle.digest[7:19])
    assert first.returncode == 0, first.stderr
    digest = index_digest(layout)
    assert f"pushed     {registry.host}/dev/adapters@{digest}" in first.stdout
    again = slipway(registry, project, tmp_path / "home", "push", bundle.digest)
    assert "6 there already" in again.stdout, again.stdout
    promoted = slipway(
        registry, project, tmp_path / "home", "push", bundle.digest, f"{registry.host}/prod/adapters:now"
    )
    assert "2 sent, 4 mounted from another repository" in promoted.stdout, promoted.stdout
    pulled = slipway(registry, project, tmp_path / "there", "pull", f"{registry.host}/prod/adapters:now")
    assert pulled.returncode == 0, pulled.stderr
    assert "signed by  release-team" in pulled.stdout
    assert f"adapters:now is {digest}" in pulled.stderr
    assert read_bundle(tmp_path / "there", bundle.digest) == bundle
    asked = slipway(registry, project, tmp_path / "x", "verify", f"{registry.host}/dev/adapters@{digest}")
    assert (asked.returncode, asked.stdout.splitlines()[0]) == (0, f"verified   {digest}")


@pytest.mark.parametrize("registry", [OPEN], indirect=True)
def test_a_byte_that_changed_on_the_registrys_disk_is_found_out(registry, project, tmp_path):
    bundle, layout = make_bundle(tmp_path / "home", prompt="Another.", number=3)
    pushed = slipway(registry, project, tmp_path / "home", "push", bundle.digest)
    weights = max((layout / "blobs/sha256").iterdir(), key=lambda path: b"lora_A" in path.read_bytes())
    (stored,) = registry.storage.rglob(f"{weights.name}/data")
    content = stored.read_bytes()
    stored.write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    reference = pushed.stdout.split()[1]
    refused = slipway(registry, project, tmp_path / "there", "pull", reference)
    assert refused.returncode == 2
    assert "the registry sends something else than was asked for" in refused.stderr
    assert weights.name in refused.stderr
    assert list_bundles(tmp_path / "there") == []
    stored.write_bytes(content)
    assert slipway(registry, project, tmp_path / "there", "pull", reference).returncode == 0


@pytest.mark.parametrize("registry", [GUARDED], indirect=True)
def test_a_wrong_login_and_an_unknown_authority_are_explained(registry, project, tmp_path):
    bundle, _ = make_bundle(tmp_path / "home")
    wrong = {"SLIPWAY_REGISTRY_USER": USER, "SLIPWAY_REGISTRY_PASSWORD": PASSWORD + "x"}
    refused = slipway(registry, project, tmp_path / "home", "push", bundle.digest, **wrong)
    assert (refused.returncode, "does not accept this login" in refused.stderr) == (2, True), refused.stderr
    assert PASSWORD not in refused.stderr
    settings = yaml.safe_load((project / "environment.yaml").read_text())
    del settings["registry"]["ca_file"]
    (project / "environment.yaml").write_text(yaml.safe_dump(settings))
    refused = slipway(registry, project, tmp_path / "home", "push", bundle.digest)
    assert "certificate is not trusted" in refused.stderr
    trusted = slipway(registry, project, tmp_path / "home", "push", bundle.digest, SSL_CERT_FILE=str(registry.ca_file))
    assert trusted.returncode == 0, trusted.stderr


@pytest.mark.parametrize("registry", [OPEN], indirect=True)
def test_a_pull_that_is_killed_leaves_nothing_whole_and_the_next_one_ends_it(registry, project, tmp_path):
    from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
    from delivery.clients.bundles.adapters import describe
    from delivery.clients.bundles.images import write_bundle

    write_tiny_lora(tmp_path / "trained", 1, rank=200_000)  # 6.4 MB: long enough to be caught in the middle
    bundle = tiny_bundle("Large.", describe(tmp_path / "trained"))
    write_bundle(bundle, tmp_path / "trained", tmp_path / "home")
    reference = slipway(registry, project, tmp_path / "home", "push", bundle.digest).stdout.split()[1]
    known = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    command = [
        sys.executable,
        "-m",
        "flows.cli.main",
        "pull",
        reference,
        "--project",
        project,
        "--home",
        tmp_path / "there",
    ]
    process = subprocess.Popen(command, env=known | registry.login, cwd=ROOT, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until and not list(tmp_path.glob("there/downloads/*/*.part")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert list_bundles(tmp_path / "there") == []
    assert [path for path in tmp_path.glob("there/bundles/*") if not path.name.startswith(".")] == []
    ended = slipway(registry, project, tmp_path / "there", "pull", reference)
    assert ended.returncode == 0, ended.stderr
    assert read_bundle(tmp_path / "there", bundle.digest) == bundle


@pytest.mark.parametrize("registry", [OPEN], indirect=True)
def test_docker_reads_it_as_an_image_with_the_adapter_under_models(registry, project, tmp_path):
    docker = shutil.which("/usr/bin/docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine runs: run tests/engines.sh dockerd")
    bundle, layout = make_bundle(tmp_path / "home")
    reference = slipway(registry, project, tmp_path / "home", "push", bundle.digest).stdout.split()[1]
    name = f"slipway-test-{os.getpid()}"
    subprocess.run([docker, "pull", "--quiet", reference], check=True, capture_output=True)
    try:
        subprocess.run([docker, "create", "--name", name, reference, "none"], check=True, capture_output=True)
        subprocess.run([docker, "cp", f"{name}:/models", tmp_path / "models"], check=True, capture_output=True)
    finally:
        subprocess.run([docker, "rm", name], capture_output=True, check=False)
        subprocess.run([docker, "rmi", reference], capture_output=True, check=False)
    for file in bundle.adapter.files:
        assert (tmp_path / "models" / file).read_bytes() == (tmp_path / "trained-1" / file).read_bytes()
    assert index_digest(layout) in reference
