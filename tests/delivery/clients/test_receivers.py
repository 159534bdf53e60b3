"""Messages are really sent, to servers of our own, and no secret is in an error or a log."""

import logging
from pathlib import Path

import pytest
from receivers import Hooks, mails

from configs.notifications import Email, Secret
from delivery.clients.receivers import shapes
from delivery.clients.receivers.errors import ReceiverError
from delivery.clients.receivers.mail import send_mail
from delivery.clients.receivers.webhook import post
from delivery.release.messages import ReleaseMessage

MESSAGE = ReleaseMessage(
    key="r1/rollback",
    kind="rollback",
    title="tutor: bundle 1a2b is taken back by slipway",
    text="error_rate 0.4 > 0.2 & <!channel> [here](http://elsewhere)\nstable gets all traffic",
    environment="local",
    route="tutor",
    release_id="r1",
    bundle="sha256:1a2b",
    at=1_000_000.0,
)
MAIL = Email(kind="email", host="127.0.0.1", sender="slipway@example.org", to=("ops@example.org", "ann@example.org"))


def test_slack_reads_no_link_and_no_call_in_what_others_have_written() -> None:
    text = shapes.slack(MESSAGE)["text"]
    assert "*tutor: bundle 1a2b is taken back by slipway*" in text
    assert "<!channel>" not in text
    assert "0.4 &gt; 0.2 &amp; &lt;!channel&gt;" in text


def test_teams_gets_a_card_whose_lines_are_text() -> None:
    (attachment,) = shapes.teams(MESSAGE)["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    title, first, second, place = attachment["content"]["body"]
    assert "taken back by slipway" in title["text"]
    assert "\\[here\\](http://elsewhere)" in first["text"]
    assert second["text"] == "stable gets all traffic"
    assert place["text"] == "local"


def test_what_is_very_long_is_cut_and_says_so() -> None:
    long = MESSAGE.model_copy(update={"text": "x" * 10_000})
    assert len(shapes.slack(long)["text"]) < 3_500
    assert " ..." in shapes.slack(long)["text"]
    assert shapes.generic(long)["text"] == long.text


def test_a_mail_has_one_line_of_subject_and_the_same_id_when_it_comes_twice() -> None:
    odd = MESSAGE.model_copy(update={"title": "a\r\nBcc: all@example.org"})
    made = shapes.mail(odd, MAIL)
    assert made["Subject"] == "[slipway local] a Bcc: all@example.org"
    assert made["Bcc"] is None
    assert made["Message-ID"] == shapes.mail(MESSAGE, MAIL)["Message-ID"]
    other = MESSAGE.model_copy(update={"key": "r2/rollback"})
    assert made["Message-ID"] != shapes.mail(other, MAIL)["Message-ID"]


def test_a_webhook_gets_the_whole_message_and_its_answer_is_told() -> None:
    with Hooks() as hooks:
        said = post(f"{hooks.url}/hook", shapes.generic(MESSAGE), {"Authorization": "Bearer t0ken"}, ("t0ken",))
    assert said == "status 200: ok"
    ((path, heads, body),) = hooks.got
    assert (path, heads["authorization"], heads["content-type"]) == ("/hook", "Bearer t0ken", "application/json")
    assert body["time"] == "1970-01-12T13:46:40Z"
    assert ReleaseMessage.model_validate({name: value for name, value in body.items() if name != "time"}) == MESSAGE


@pytest.mark.parametrize(
    ("status", "cure"),
    [(403, "login"), (404, "make it anew"), (429, "takes no more"), (500, "its own log"), (302, "see")],
)
def test_what_a_webhook_refuses_is_told_with_its_words_and_a_cure(status: int, cure: str) -> None:
    with Hooks() as hooks:
        hooks.status, hooks.says, hooks.headers = status, "no_service", {"Retry-After": "7"}
        with pytest.raises(ReceiverError) as found:
            post(hooks.url, {}, {}, ())
    assert found.value.what == f"status {status}: no_service"
    assert cure in found.value.cure
    assert found.value.retry_after_s == 7.0


def test_an_address_that_is_a_secret_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Hooks() as hooks:
        url = f"{hooks.url}/services/T0/B0/s3cr3t"
        hooks.status, hooks.says = 500, f"cannot post to {url}"
        with pytest.raises(ReceiverError) as refused:
            post(url, {}, {}, (url,))
        hooks.status = 200
        said = post(url, {}, {}, (url,))
    with pytest.raises(ReceiverError) as away:
        post(url, {}, {}, (url,))
    with pytest.raises(ReceiverError) as wrong:
        post("s3cr3t", {}, {}, ("s3cr3t",))
    for text in (refused.value.render(), away.value.render(), wrong.value.render(), said, caplog.text):
        assert "s3cr3t" not in text
    assert "***" in refused.value.what
    assert "cannot be reached" in away.value.what


def test_a_webhook_that_hangs_is_left_after_its_time() -> None:
    with Hooks() as hooks:
        hooks.hangs = True
        with pytest.raises(ReceiverError, match="cannot be reached"):
            post(hooks.url, {}, {}, (), timeout_s=0.2)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_over_tls_to_everybody_after_a_login(tmp_path: Path, security: str) -> None:
    with mails(tmp_path, security=security) as server:
        settings = MAIL.model_copy(update={"port": server.port, "security": security})
        assert send_mail(settings, MESSAGE, "slipway", "a-password", server.trusted) == "taken"
    ((to, mail),) = server.got
    assert (to, server.users) == (["ops@example.org", "ann@example.org"], [b"slipway"])
    assert mail["Subject"] == "[slipway local] tutor: bundle 1a2b is taken back by slipway"
    text = mail.get_content()
    assert "stable gets all traffic" in text
    assert "release: r1" in text


def test_a_relay_without_login_and_tls_is_spoken_to_as_it_is(tmp_path: Path) -> None:
    with mails(tmp_path, security="none", login=False) as server:
        settings = MAIL.model_copy(update={"port": server.port, "security": "none"})
        assert send_mail(settings, MESSAGE) == "taken"
    assert len(server.got) == 1


def test_each_step_of_a_mail_that_fails_is_named_with_its_cure(tmp_path: Path) -> None:
    with mails(tmp_path) as server:
        settings = MAIL.model_copy(update={"port": server.port})
        with pytest.raises(ReceiverError, match="no STARTTLS that can be trusted") as distrusted:
            send_mail(settings, MESSAGE, "slipway", "a-password")
        assert "SSL_CERT_FILE" in distrusted.value.cure
        with pytest.raises(ReceiverError, match="it refuses the login: 535") as refused:
            send_mail(settings, MESSAGE, "slipway", "wr0ng", server.trusted)
        assert "wr0ng" not in refused.value.render()
        server.refuses = "554 no spam, please"
        with pytest.raises(ReceiverError, match="does not take the mail: 554 no spam, please"):
            send_mail(settings, MESSAGE, "slipway", "a-password", server.trusted)
    with pytest.raises(ReceiverError, match="it cannot be reached") as away:
        send_mail(settings, MESSAGE, tls=server.trusted)
    assert away.value.where == f"127.0.0.1:{server.port}"
    assert server.got == []


def test_a_secrets_place_can_be_shown() -> None:
    assert str(Secret(env="SLIPWAY_CHAT_URL")) == "SLIPWAY_CHAT_URL"
