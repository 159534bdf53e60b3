"""One set of settings: the file, the command line and environment.yaml say the same things by the same names."""

from pathlib import Path

import pytest

from configs.environment import Environment
from configs.errors import ConfigError
from configs.gateway import GatewayConfig
from configs.loading import as_yaml, check_text, load
from configs.traffic_log import Redaction, TrafficLog
from delivery.gateway.arguments import parser, settings_of
from delivery.gateway.settings import Settings

TOKEN = {"SLIPWAY_ADMIN_TOKEN": "t" * 32}


def started(*arguments: str) -> Settings:
    return settings_of(parser().parse_args(arguments), TOKEN)


def test_without_a_word_the_settings_are_the_models_defaults() -> None:
    assert started() == Settings(admin_token="t" * 32)


def test_a_file_says_what_the_command_line_can_and_the_command_line_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []")
    said = GatewayConfig(port=9001, max_body_bytes=20_000_000, api_keys=tmp_path / "keys.yaml", reuse_port=True)
    file = tmp_path / "gateway.yaml"
    file.write_text(as_yaml(said))
    assert started("--config", str(file)) == Settings(admin_token="t" * 32, **dict(said))
    found = started("--config", str(file), "--port", "9002", "--no-reuse-port", "--drain-s", "3")
    assert (found.port, found.reuse_port, found.drain_s, found.max_body_bytes) == (9002, False, 3.0, 20_000_000)


@pytest.mark.parametrize("name", GatewayConfig.model_fields)
def test_every_setting_is_an_option_and_can_be_said_in_environment_yaml(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    assert f"--{name.replace('_', '-')} " in capsys.readouterr().out.replace("\n", " ").replace(",", " ")
    assert name in Environment.model_json_schema()["$defs"]["GatewayConfig"]["properties"]


def test_the_older_spelling_of_the_keys_file_still_holds(tmp_path: Path) -> None:
    assert started("--keys", "keys.yaml").api_keys == started("--api-keys", "keys.yaml").api_keys == Path("keys.yaml")


def test_a_setting_with_parts_is_a_file_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text("share: 0.1")
    assert started("--traffic-log", str(tmp_path / "log.yaml")).traffic_log == TrafficLog(share=0.1)


def test_everything_wrong_in_file_and_command_line_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    file, log = tmp_path / "gateway.yaml", tmp_path / "log.yaml"
    file.write_text("prot: 80\ndrain_s: -1\nport: 70000\n")
    with pytest.raises(ConfigError) as told:
        started("--config", str(file), "--workers", "none", "--port", "8000")
    text = told.value.render()
    assert f"{file}: prot: unknown key" in text
    assert "did you mean 'port'?" in text
    assert f"{file}: drain_s: Input should be greater than 0" in text
    assert "--workers: Input should be a valid integer" in text
    assert "70000" not in text  # overridden
    log.write_text("shrae: 0.1")
    with pytest.raises(ConfigError, match="shrae"):
        started("--traffic-log", str(log))


def test_what_a_fleet_hands_its_workers_is_read_as_it_was() -> None:
    odd = Redaction(pattern="\x7f|[\u2028\U0001f600]", replacement="ä")
    config = GatewayConfig(traffic_log=TrafficLog(redact=(odd,)))
    assert check_text(as_yaml(config), Path("-"), GatewayConfig) == (config, [])


def test_the_gateway_of_an_environment_is_told_what_to_serve_and_has_ports_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    for text, said in (("table: table.yaml", "told here what to serve"), ("admin_port: 0", "admin_port is 0")):
        file.write_text(f"gateway: {{{text}}}")
        with pytest.raises(ConfigError, match=said):
            load(file, Environment)
