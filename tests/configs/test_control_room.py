"""Who may do what in the control room, and where it may listen."""

import pytest
from pydantic import ValidationError

from configs.control_room import MAY, ControlRoom, ProxySignIn, may


def test_everybody_reads_and_only_those_who_may_act_at_all_take_a_release_back() -> None:
    assert all("read" in deeds for deeds in MAY.values())
    assert {role for role, deeds in MAY.items() if "roll back" in deeds} == {"operator", "approver"}


def test_whoever_releases_does_not_approve_unless_both_roles_are_given() -> None:
    assert not may(frozenset({"operator"}), "approve")
    assert not may(frozenset({"approver"}), "release")
    assert may(frozenset({"operator", "approver"}), "approve")
    assert not may(frozenset(), "read")


def test_it_listens_on_loopback_by_default_and_nobody_reads_without_signing_in() -> None:
    assert ControlRoom().is_local
    assert not ControlRoom().read_without_sign_in


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "::", "slipway.example.com"])
def test_beyond_this_machine_a_proxy_with_tls_is_needed(host: str) -> None:
    with pytest.raises(ValidationError, match="unencrypted"):
        ControlRoom(host=host)
    with pytest.raises(ValidationError, match="unencrypted"):
        ControlRoom(host=host, public_url="http://slipway.example.com")
    assert not ControlRoom(host=host, public_url="https://slipway.example.com").is_local


def test_a_proxy_is_believed_by_its_address_alone() -> None:
    with pytest.raises(ValidationError, match="no IP address: proxy"):
        ProxySignIn(addresses=("proxy",))
