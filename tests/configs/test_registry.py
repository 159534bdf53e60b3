"""What may be said of registries and signatures, and what is refused without repeating a secret."""

from pathlib import Path

import pytest

from configs.environment import Environment
from configs.loading import check_text

KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"


def problems(text: str) -> list[str]:
    return [str(problem) for problem in check_text(text, Path("environment.yaml"), Environment)[1]]


def test_nothing_has_to_be_said() -> None:
    assert Environment().registry.repository is None
    assert not Environment().signatures.required


def test_a_policy_is_read_as_it_is_written() -> None:
    text = """
    registry: {repository: registry.example.com:5000/team/adapters, ca_file: ca.pem, timeout_s: 10}
    signatures:
      required: true
      signers:
        ada: {public_key: keys/ada.pub, routes: [tutor]}
        release: {authority: keys/ca.pem, names: [release@example.com]}
      sign_with: {private_key: keys/ada.pem}
    """
    found, wrong = check_text(text, Path("environment.yaml"), Environment)
    assert not wrong
    assert sorted(found.signatures.signers) == ["ada", "release"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registry: {repository: 'https://r.io/x'}", "no repository of a registry"),
        ("registry: {repository: 'r.io/x:v1'}", "no repository of a registry"),
        ("registry: {repository: r.io}", "no repository of a registry"),
        ("registry: {timeout_s: 0}", "greater than 0"),
        ("registry: {pasword: x}", "unknown key"),
        ("signatures: {required: true}", "nobody's count"),
        ("signatures: {signers: {ada: {}}}", "a public_key or an authority"),
        ("signatures: {signers: {ada: {public_key: a, authority: b, names: [c]}}}", "a public_key or an authority"),
        ("signatures: {signers: {ada: {authority: b}}}", "whoever has any certificate of it could sign"),
        ("signatures: {signers: {ada: {public_key: a, names: [c]}}}", "names belong to an authority"),
    ],
)
def test_what_cannot_work_is_refused_with_its_cure(text: str, said: str) -> None:
    (problem,) = problems(text)
    assert said in problem


@pytest.mark.parametrize(
    "text",
    [
        f"signatures: {{signers: {{ada: {{public_key: {KEY!r}}}}}}}",
        f"signatures: {{sign_with: {{private_key: {KEY!r}}}}}",
    ],
)
def test_a_private_key_is_refused_and_not_repeated(text: str) -> None:
    (problem,) = problems(text.replace("'", '"'))
    assert "private key" in problem
    assert "hunter2" not in problem
