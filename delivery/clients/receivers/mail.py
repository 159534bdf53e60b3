"""Sends one mail by SMTP: with STARTTLS or TLS whose certificate is checked, and a login only then."""

import smtplib
import ssl
from contextlib import suppress

from configs.notifications import Email
from delivery.clients.receivers.errors import ReceiverError, without
from delivery.clients.receivers.shapes import mail
from delivery.release.messages import ReleaseMessage

TIMEOUT_S = 10.0  # of each step


def send_mail(
    settings: Email,
    message: ReleaseMessage,
    user: str = "",
    password: str = "",
    tls: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """What the server answered. ReceiverError says which step failed. `tls`: by default the usual authorities count."""
    step = "it cannot be reached"
    try:
        server = _connected(settings, tls or ssl.create_default_context(), timeout_s)
        try:
            if settings.security == "starttls":
                step = "it speaks no STARTTLS that can be trusted"
                server.starttls(context=tls or ssl.create_default_context())
            if user:
                step = "it refuses the login"
                server.login(user, password)
            step = "it does not take the mail"
            refused = server.send_message(mail(message, settings))
        finally:
            with suppress(OSError, smtplib.SMTPException):
                server.quit()
    except (OSError, smtplib.SMTPException, UnicodeError, ValueError) as error:
        said = without(_words(error), (password, user))
        raise ReceiverError(f"{step}: {said}", where=f"{settings.host}:{settings.at_port}", cure=_cure(step)) from None
    if refused:  # by some, taken for others: a second try would come twice to these
        return f"taken, but not for {', '.join(sorted(refused))}"
    return "taken"


def _connected(settings: Email, tls: ssl.SSLContext, timeout_s: float) -> smtplib.SMTP:
    if settings.security == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.at_port, timeout=timeout_s, context=tls)
    return smtplib.SMTP(settings.host, settings.at_port, timeout=timeout_s)


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {said}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"no recipient is taken: {', '.join(sorted(error.recipients))}"
    return str(error) or type(error).__name__


def _cure(step: str) -> str:
    return {
        "it cannot be reached": "see host, port and security: 587 is for starttls, 465 for tls",
        "it speaks no STARTTLS that can be trusted": "security: tls, or name its authority in SSL_CERT_FILE",
        "it refuses the login": "see the variables that hold user and password",
        "it does not take the mail": "see sender and recipients, and what the server lets this user send",
    }[step]
