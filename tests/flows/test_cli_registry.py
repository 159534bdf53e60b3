"""The commands push, pull, verify and sign: what they print, and with which status they end."""

import yaml
from places import ROOT
from signed_bundles import key_owner, make_bundle
from stub_registry import stub_registry
from typer.testing import CliRunner

from configs.errors import SlipwayError
from delivery.clients.bundles.layout import index_digest
from flows.cli.main import app


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_bundle_is_signed_pushed_pulled_and_verified(tmp_path, monkeypatch):
    for name in ("SLIPWAY_REGISTRY_USER", "SLIPWAY_SIGNING_KEY", "SLIPWAY_HOME"):
        monkeypatch.delenv(name, raising=False)
    ada, home, there = key_owner(tmp_path), tmp_path / "home", tmp_path / "there"
    bundle, layout = make_bundle(home)
    with stub_registry() as registry:
        (tmp_path / "project.yaml").write_text(
            yaml.safe_dump({"extends": str(ROOT / "configs/tutor"), "route": "tutor"})
        )
        policy = {"required": True, "signers": {"ada": {"public_key": ada.signer.public_key}}}
        place = {"repository": f"{registry.address}/team/adapters", "plain_http": True}
        (tmp_path / "environment.yaml").write_text(yaml.safe_dump({"registry": place, "signatures": policy}))
        where = ("--project", tmp_path, "--home", home)
        unsigned = run("verify", bundle.digest, *where)
        assert isinstance(unsigned.exception, SlipwayError)
        monkeypatch.setenv("SLIPWAY_SIGNING_KEY", str(ada.key.private_key))
        assert run("sign", bundle.digest, *where).output == f"signed: {layout}\n"
        assert run("sign", bundle.digest, *where).output == f"signed already: {layout}\n"
        pushed = run("push", bundle.digest, *where).output
        digest = index_digest(layout)
        assert f"pushed     {registry.address}/team/adapters@{digest}\ntag        {bundle.variant_name}\n" in pushed
        pulled = run("pull", f"{registry.address}/team/adapters@{digest}", "--project", tmp_path, "--home", there)
        assert pulled.exit_code == 0
        assert "signed by  ada\n" in pulled.output
        verified = run("verify", bundle.digest, "--project", tmp_path, "--home", there)
        assert verified.output.startswith(f"verified   {digest}\n")
