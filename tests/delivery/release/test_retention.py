"""What may be removed: nothing that is needed, young or busy, and nothing that such a thing refers to."""

from hypothesis import given
from hypothesis import strategies as st

from configs.retention import Retention
from delivery.release.retention import DAY_S, ORDER, KeptKind, Need, Ref, Stored, clean_up

NOW = 1000 * DAY_S
NAMES = st.integers(0, 5).map(str)
KINDS = st.sampled_from(ORDER)
REFS = st.builds(Ref, kind=KINDS, name=NAMES)


@st.composite
def folders(draw: st.DrawFn) -> list[Stored]:
    """Any folder, also one in which things refer to each other in circles, or to what is not there."""
    places = draw(st.lists(REFS, unique=True, max_size=14))
    return [
        Stored(
            ref=ref,
            size=draw(st.integers(0, 9)),
            changed_at=NOW - draw(st.integers(0, 40)) * DAY_S,
            of=draw(st.sampled_from(["tutor", "quiz"])),
            refers_to=tuple(draw(st.lists(REFS, max_size=3))),
            is_busy=draw(st.booleans()) and draw(st.booleans()),
        )
        for ref in places
    ]


NEEDS = st.lists(st.builds(Need, bundle=NAMES, why=st.just("live"), refers_to=st.tuples(REFS)), max_size=3)
POLICIES = st.builds(Retention, keep_bundles=st.integers(1, 4), keep_days=st.integers(0, 30).map(float))


def gone_of(stored: list[Stored], needs: list[Need], policy: Retention) -> set[Ref]:
    return {one.ref for one in clean_up(stored, needs, policy, NOW).removals}


@given(folders(), NEEDS, POLICIES)
def test_what_is_needed_stays_with_all_that_it_leads_to(stored: list[Stored], needs: list[Need], policy: Retention):
    gone, there = gone_of(stored, needs, policy), {one.ref: one for one in stored}
    for need in needs:
        assert Ref(kind="bundle", name=need.bundle) not in gone
        assert not gone & set(need.refers_to)
    for ref in there.keys() - gone:
        assert not gone & set(there[ref].refers_to)


@given(folders(), NEEDS, POLICIES)
def test_nothing_young_and_nothing_busy_goes(stored: list[Stored], needs: list[Need], policy: Retention):
    gone = gone_of(stored, needs, policy)
    for one in stored:
        if one.is_busy or NOW - one.changed_at < policy.keep_days * DAY_S:
            assert one.ref not in gone


@given(folders(), NEEDS, POLICIES)
def test_the_newest_bundles_of_each_route_stay(stored: list[Stored], needs: list[Need], policy: Retention):
    gone = gone_of(stored, needs, policy)
    for route in ("tutor", "quiz"):
        bundles = [one for one in stored if one.ref.kind == "bundle" and one.of == route]
        newest = sorted(bundles, key=lambda one: (-one.changed_at, one.ref.name))[: policy.keep_bundles]
        assert not gone & {one.ref for one in newest}


@given(folders(), NEEDS, POLICIES)
def test_everything_is_either_removed_with_a_reason_or_kept_with_one(
    stored: list[Stored], needs: list[Need], policy: Retention
):
    found = clean_up(stored, needs, policy, NOW)
    kept = {Ref(kind=kind, name=name) for kind, names in found.kept.items() for name in names}
    gone = [one.ref for one in found.removals]
    assert kept | set(gone) == {one.ref for one in stored}
    assert not kept & set(gone)
    assert len(gone) == len(set(gone))
    assert all(one.reason for one in found.removals)
    assert all(why for names in found.kept.values() for why in names.values())
    assert found.size == sum(one.size for one in stored if one.ref in gone)


@given(folders(), NEEDS, POLICIES)
def test_doing_it_again_removes_nothing_more(stored: list[Stored], needs: list[Need], policy: Retention):
    gone = gone_of(stored, needs, policy)
    left = [one for one in stored if one.ref not in gone]
    assert gone_of(left, needs, policy) == set()


@given(folders(), NEEDS, POLICIES)
def test_stopped_anywhere_nothing_that_is_left_points_to_what_is_gone(
    stored: list[Stored], needs: list[Need], policy: Retention
):
    removals = clean_up(stored, needs, policy, NOW).removals
    at = {kind: number for number, kind in enumerate(ORDER)}
    assert [at[one.ref.kind] for one in removals] == sorted(at[one.ref.kind] for one in removals)


def one(kind: KeptKind, name: str, days: float, **more: object) -> Stored:
    return Stored(ref=Ref(kind=kind, name=name), size=1, changed_at=NOW - days * DAY_S, of="tutor", **more)  # type: ignore[arg-type]


def test_the_reason_says_how_old_and_how_many_are_kept():
    stored = [one("bundle", "a", 30), one("bundle", "b", 20)]
    (removal,) = clean_up(stored, [], Retention(keep_bundles=1, keep_days=7), NOW).removals
    assert removal.ref.name == "a"
    assert removal.reason == "number 2 of tutor by age, and 1 are kept; 30.0 days old, and 7 are kept"


def test_a_bundle_that_is_kept_keeps_adapter_training_and_dataset():
    adapter, dataset, training = (Ref(kind=k, name="x") for k in ("adapter", "dataset", "training"))
    stored = [
        one("bundle", "live", 90, refers_to=(adapter, dataset)),
        one("adapter", "x", 90, refers_to=(training,)),
        one("training", "x", 90, refers_to=(adapter,)),
        one("dataset", "x", 90),
        one("dataset", "newer", 80),
        one("adapter", "old", 90),
        one("training", "old", 90, refers_to=(Ref(kind="adapter", name="old"),)),
        one("evals", "old", 90),
    ]
    found = clean_up(stored, [Need(bundle="live", why="live of tutor")], Retention(keep_bundles=1), NOW)
    assert [f"{r.ref.kind} {r.ref.name}" for r in found.removals] == ["training old", "evals old", "adapter old"]
    assert found.kept["training"]["x"] == "of adapter x, of bundle live, live of tutor"
