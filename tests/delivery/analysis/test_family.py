"""Several checks under one budget; promotion needs every one of them."""

import pytest

from delivery.analysis.family import FamilyMember, fails, unproven


def family(*values):
    return [FamilyMember(name=f"check {i}", e_value=value) for i, value in enumerate(values)]


def test_one_check_alone_must_carry_the_whole_budget():
    assert not fails(family(199.0, *[0.0] * 9), alpha=0.05).failed
    failure = fails(family(200.0, *[0.0] * 9), alpha=0.05)
    assert failure.failed
    assert failure.blamed == ("check 0",)
    assert failure.e_value == pytest.approx(20)


def test_several_checks_may_fail_together_and_the_strongest_is_named():
    failure = fails(family(12.0, 30.0), alpha=0.05)
    assert failure.failed
    assert failure.blamed == ("check 1",)


def test_weights_share_the_budget():
    members = [FamilyMember(name="errors", e_value=25.0, weight=9.0), FamilyMember(name="tokens", e_value=1.0)]
    assert fails(members, alpha=0.05).failed
    assert not fails(family(25.0, 1.0), alpha=0.05).failed


def test_a_limit_that_stable_breaches_too_blames_nobody():
    shared = FamilyMember(name="errors", e_value=1e6, stable_e_value=1e9)
    failure = fails([shared, *family(1.0)], alpha=0.05)
    assert not failure.failed
    assert failure.shared == ("errors",)
    assert not fails([shared], alpha=0.05).failed


def test_no_checks_no_failure_and_no_evidence_no_promotion():
    assert not fails([], alpha=0.05).failed
    assert unproven({"errors": 1.0, "latency": 30.0}, alpha=0.05) == ("errors",)
    assert unproven({"errors": 20.0, "latency": 30.0}, alpha=0.05) == ()
