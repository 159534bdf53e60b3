from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.routing import FULL_BP, Route
from delivery.traffic.assignment import assign, bucket, mirrored_to, pseudonym

SHARES = st.integers(0, FULL_BP)
KEYS = st.text(max_size=40)


def route(candidate_bp: int = 0, holdback_bp: int | None = None, mirror_bp: int = 0, salt: str = "pepper") -> Route:
    variants = {name: {"model": name, "upstreams": ["http://u"]} for name in ("old", "new", "former")}
    fields: dict[str, Any] = {"salt": salt, "variants": variants, "stable": "old"}
    fields["candidate"] = {"variant": "new", "share_bp": candidate_bp, "mirror_bp": mirror_bp}
    if holdback_bp is not None:
        fields["holdback"] = {"variant": "former", "share_bp": holdback_bp}
    return Route.model_validate(fields)


def one_key_per_bucket(salt: str) -> dict[int, str]:
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < FULL_BP:
        keys.setdefault(bucket(salt, f"user-{number}"), f"user-{number}")
        number += 1
    return keys


ONE_EACH = one_key_per_bucket("pepper")


@given(SHARES)
@settings(max_examples=12, deadline=None)
def test_a_candidate_gets_exactly_its_basis_points(share: int) -> None:
    assert sum(assign(route(share), ONE_EACH[place], True) == "new" for place in range(share)) == share
    assert all(assign(route(share), ONE_EACH[place], True) == "old" for place in range(share, FULL_BP))


@given(SHARES, SHARES)
@settings(max_examples=12, deadline=None)
def test_a_holdback_gets_exactly_its_basis_points_from_the_top(candidate: int, holdback: int) -> None:
    holdback = min(holdback, FULL_BP - candidate)
    given_out = [assign(route(candidate, holdback), ONE_EACH[place], True) for place in range(FULL_BP)]
    assert given_out == ["new"] * candidate + ["old"] * (FULL_BP - candidate - holdback) + ["former"] * holdback


@given(KEYS, SHARES, SHARES)
def test_a_growing_share_never_takes_a_user_back(key: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    if assign(route(smaller), key, True) == "new":
        assert assign(route(larger), key, True) == "new"


@given(KEYS, SHARES, SHARES)
def test_a_shrinking_share_never_gives_a_user_the_candidate_anew(key: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    if assign(route(larger), key, True) == "old":
        assert assign(route(smaller), key, True) == "old"


@given(KEYS, SHARES)
def test_without_a_lease_everybody_gets_stable(key: str, share: int) -> None:
    assert assign(route(share, FULL_BP - share), key, False) == "old"
    assert mirrored_to(route(mirror_bp=FULL_BP), key, False) is None


@given(st.text(min_size=1, max_size=200), KEYS)
def test_any_salt_and_key_make_a_bucket_that_stays_the_same(salt: str, key: str) -> None:
    assert 0 <= bucket(salt, key) < FULL_BP
    assert bucket(salt, key) == bucket(salt, key)


def test_buckets_are_the_same_in_every_process_and_release() -> None:
    assert [bucket("pepper", name) for name in ("ada", "bob", "")] == [7839, 5466, 6371]


def test_a_header_that_is_not_utf8_has_a_bucket_too() -> None:
    assert 0 <= bucket("pepper", "caf\udce9") < FULL_BP


def test_users_spread_evenly_and_another_salt_deals_them_anew() -> None:
    users = [f"user-{n}" for n in range(20_000)]
    mine = {user for user in users if bucket("pepper", user) < 1000}
    theirs = {user for user in users if bucket("salt", user) < 1000}
    assert len(mine) == pytest.approx(2000, abs=200)
    assert len(mine & theirs) == pytest.approx(200, abs=70)


@given(KEYS, SHARES, SHARES)
def test_a_mirror_samples_by_request_and_a_larger_sample_contains_a_smaller(key: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    if mirrored_to(route(mirror_bp=smaller), key, True) == "new":
        assert mirrored_to(route(mirror_bp=larger), key, True) == "new"


def test_a_mirror_of_everything_copies_everything_and_of_a_tenth_a_tenth() -> None:
    requests = [f"request-{n}" for n in range(10_000)]
    assert all(mirrored_to(route(mirror_bp=FULL_BP), request, True) == "new" for request in requests)
    sampled = sum(mirrored_to(route(mirror_bp=1000), request, True) == "new" for request in requests)
    assert sampled == pytest.approx(1000, abs=150)


def test_a_pseudonym_is_stable_and_says_nothing_of_the_key_or_the_bucket() -> None:
    assert pseudonym("pepper", "ada") == pseudonym("pepper", "ada") != pseudonym("salt", "ada")
    assert len(pseudonym("pepper", "ada")) == 16
    assert int(pseudonym("pepper", "ada"), 16) % FULL_BP != bucket("pepper", "ada")
