"""What environment.yaml may say of receivers; a secret that is written there is refused and not repeated."""

from pathlib import Path

import pytest

from configs.environment import Environment
from configs.errors import ConfigError
from configs.loading import check_text, load

SECRET = "https://hooks.slack.example/services/T000/B000/s3cr3t"
ALL = """
notifications:
  chat: {kind: slack, url: {env: SLIPWAY_CHAT_URL}}
  rooms: {kind: teams, url: {prefect_secret: teams-url}, tell: [approval, live]}
  pager:
    kind: webhook
    url: https://pager.example.org/slipway
    headers: {Authorization: {env: SLIPWAY_PAGER}}
  mail: {kind: email, host: smtp.example.org, sender: slipway@example.org, to: [ops@example.org],
         user: {env: SMTP_USER}, password: {env: SMTP_PASSWORD}}
  automations: {kind: prefect}
"""


def read(tmp_path: Path, text: str) -> Environment:
    (tmp_path / "environment.yaml").write_text(text)
    return load(tmp_path / "environment.yaml", Environment)


def test_every_kind_is_said_by_name_and_has_its_usual_kinds_of_messages(tmp_path: Path) -> None:
    found = read(tmp_path, ALL).notifications
    assert {name: one.kind for name, one in found.items()} == {
        "chat": "slack", "rooms": "teams", "pager": "webhook", "mail": "email", "automations": "prefect"
    }  # fmt: skip
    assert found["chat"].tell == ("alert", "approval", "rollback", "refusal")
    assert found["rooms"].tell == ("approval", "live")
    assert found["mail"].kind == "email"
    assert found["mail"].at_port == 587


@pytest.mark.parametrize(
    "wrong",
    [
        f"{{kind: slack, url: {SECRET}}}",
        f"{{kind: teams, url: {{env: '{SECRET}'}}}}",
        f"{{kind: slack, url: {{prefect_secret: '{SECRET}'}}}}",
        "{kind: webhook, url: https://ops:s3cr3t@example.org/hook}",
        "{kind: webhook, url: https://example.org, headers: {Authorization: Bearer s3cr3t}}",
        "{kind: email, host: h, sender: a@b, to: [c@d], user: {env: U}, password: s3cr3t}",
    ],
)
def test_a_secret_that_is_written_in_the_file_is_refused_and_not_repeated(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(tmp_path, f"notifications: {{ops: {wrong}}}")
    said = found.value.render()
    assert "s3cr3t" not in said
    assert "{env: SLIPWAY_CHAT_URL}" in said
    assert "environment.yaml: notifications.ops" in said


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("{kind: slack, url: {}}", "a secret is kept in one place"),
        ("{kind: slack, url: {env: A, prefect_secret: a}}", "a secret is kept in one place"),
        ("{kind: pigeon}", "pigeon"),
        ("{kind: webhook, url: ftp://example.org}", "no http:// or https:// address"),
        ("{kind: webhook, url: https://example.org, tell: []}", "tell"),
        ("{kind: webhook, url: https://example.org, headers: {'A b': {env: A}}}", "no name of a header"),
        ("{kind: email, host: h, sender: nobody, to: [c@d]}", "'nobody' is no e-mail address"),
        ("{kind: email, host: h, sender: a@b, to: ['c@d, e@f']}", "is no e-mail address"),
        ("{kind: email, host: h, sender: a@b, to: [c@d], user: {env: U}}", "user and password belong together"),
        (
            "{kind: email, host: h, sender: a@b, to: [c@d], security: none, user: {env: U}, password: {env: P}}",
            "in the clear",
        ),
    ],
)
def test_what_cannot_work_is_said_with_its_place(wrong: str, what: str) -> None:
    found, problems = check_text(f"notifications: {{ops: {wrong}}}", Path("environment.yaml"), Environment)
    assert found is None
    said = "\n".join(map(str, problems))
    assert what in said
    assert "environment.yaml: notifications.ops" in said


def test_a_name_that_no_log_could_show_is_refused() -> None:
    found, problems = check_text("notifications: {'On Call!': {kind: prefect}}", Path("e.yaml"), Environment)
    assert found is None
    assert "On Call!" in str(problems[0])
