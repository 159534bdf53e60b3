"""What a step makes of the file in Git: the route, its adapters, and nothing of other routes."""

from typing import Any

import pytest
import yaml

from configs.errors import SlipwayError
from configs.gitops import ChartAdapter, ChartRoute, GitOps
from configs.routing import Candidate, Holdback, Route, Variant
from delivery.release.state import Served
from tasks.serving.gitops.steps import (
    OtherReleaseError,
    chart_route,
    read,
    started,
    stepped,
    subject,
    with_adapters,
    with_default,
)

URL = "http://10.0.0.1:8100"
BASE = Served(bundle="sha256:b", name="base-1", variant=Variant(model="base", upstreams=(URL,), system_prompt="long"))
NEW = Variant(model="tutor-aaaaaaaaaaaa", upstreams=(URL,), temperature=0.2)
ADAPTER = {"tutor-aaaaaaaaaaaa": ChartAdapter(digest="sha256:" + "a" * 64)}


def said(release: str = "r1", **route: Any) -> ChartRoute:
    there = {"salt": "s", "variants": {"base-1": BASE.variant, "tutor-1": NEW}, "stable": "base-1"} | route
    return chart_route(Route.model_validate(there), release, BASE, "base")


CANARY = Candidate(variant="tutor-1", share_bp=1250)


def test_a_route_of_the_table_is_a_route_of_the_values() -> None:
    found = said(candidate=CANARY)
    assert found.default is None
    assert found.candidate is not None
    assert (found.candidate.mode, found.candidate.share_percent) == ("canary", 12.5)
    assert said(candidate=Candidate(variant="tutor-1", mirror_bp=5000)).candidate.mode == "shadow"  # type: ignore[union-attr]
    watched = said(stable="tutor-1", holdback=Holdback(variant="base-1", share_bp=1000))
    assert (watched.default, watched.holdback.share_percent) == ("tutor-1", 10)  # type: ignore[union-attr]
    assert said(stable="tutor-1", variants={"tutor-1": NEW}).variants["base-1"].system_prompt == "long"


def test_pods_addresses_are_not_in_git() -> None:
    assert URL not in stepped("", "tutor", said(candidate=CANARY), ADAPTER)


def test_a_step_keeps_other_routes_and_all_adapters() -> None:
    text = stepped("", "tutor", said(candidate=CANARY), ADAPTER)
    text = stepped(text, "helper", said(variants={"base-1": BASE.variant}), {})
    assert set(read(text)["routes"]) == {"tutor", "helper"}
    assert set(read(text)["adapters"]) == {"tutor-aaaaaaaaaaaa"}
    text = stepped(text, "tutor", said(variants={"base-1": BASE.variant}), {})
    assert set(read(text)["adapters"]) == {"tutor-aaaaaaaaaaaa"}, "gateways that are not replaced yet still ask for it"


def test_before_a_release_its_adapters_are_loaded_and_those_that_nobody_names_are_dropped() -> None:
    before = said(variants={"base-1": BASE.variant})
    text = started("", "tutor", before, ADAPTER)
    assert set(read(text)["adapters"]) == {"tutor-aaaaaaaaaaaa"}
    assert read(text)["routes"]["tutor"]["default"] is None
    text = stepped(text, "tutor", said(candidate=CANARY), ADAPTER)
    assert started(text, "tutor", before, ADAPTER) == text, "one that goes on changes nothing"
    text = stepped(text, "tutor", before, {})
    other = {"tutor-bbbbbbbbbbbb": ChartAdapter(digest="sha256:" + "b" * 64)}
    assert set(read(started(text, "tutor", before, other))["adapters"]) == {*other}
    assert set(read(with_adapters(text, other))["adapters"]) == {*other, *ADAPTER}


def test_another_releases_candidate_is_not_overwritten_and_the_own_one_is() -> None:
    text = stepped("", "tutor", said("r1", candidate=CANARY), ADAPTER)
    with pytest.raises(OtherReleaseError, match="release r1 is under way"):
        stepped(text, "tutor", said("r2"), ADAPTER)
    assert stepped(text, "tutor", said("r1"), ADAPTER)
    ended = stepped(text, "tutor", said("r1"), ADAPTER)
    assert stepped(ended, "tutor", said("r2", candidate=CANARY), ADAPTER)


def test_a_quick_rollback_leaves_no_candidate_and_says_null() -> None:
    text = stepped("", "tutor", said(stable="tutor-1", holdback=Holdback(variant="base-1", share_bp=1000)), ADAPTER)
    found = read(with_default(text, "tutor", None))["routes"]["tutor"]
    assert found["default"] is None
    assert "holdback" not in found
    with pytest.raises(SlipwayError, match="route helper is not in the file, which has tutor"):
        with_default(text, "helper", None)


def test_what_is_no_yaml_is_said() -> None:
    for text in ("a: [", "- 1"):
        with pytest.raises(SlipwayError, match="the file in Git"):
            read(text)


def test_a_title_says_what_users_get() -> None:
    assert subject("tutor", said(candidate=CANARY), "sha256:" + "c" * 64) == "tutor: canary 12.5 % of cccccccccccc"
    assert subject("tutor", said(stable="tutor-1", variants={"tutor-1": NEW}), "") == "tutor: all users on tutor-1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repository", "https://me:secret@git.example/x.git"),
        ("repository", "ext::sh -c id"),
        ("repository", "--upload-pack=id"),
        ("branch", "--force"),
        ("branch", "a..b"),
        ("file", "../release.yaml"),
        ("file", "/etc/release.yaml"),
        ("file", ".git/config.yaml"),
        ("file", "release.txt"),
    ],
)
def test_an_address_a_branch_or_a_file_that_could_do_harm_is_refused(field: str, value: str) -> None:
    good = {"repository": "git@git.example:team/x.git", "branch": "main", "file": "a/release.yaml"}
    assert GitOps.model_validate(good)
    with pytest.raises(ValueError):
        GitOps.model_validate(good | {field: value})


def test_the_file_is_what_the_chart_reads() -> None:
    text = stepped("", "tutor", said(candidate=CANARY), ADAPTER)
    ChartRoute.model_validate(yaml.safe_load(text)["routes"]["tutor"])
