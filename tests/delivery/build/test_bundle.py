"""A bundle's digest is its identity: it follows every part, and nothing else."""

import pytest
from pydantic import ValidationError

from configs.canonical import digest_of
from delivery.build.bundle import Adapter, Bundle, Merged, SuiteScore

ADAPTER = Adapter(digest="sha256:" + "a" * 64, rank=8, files={"adapter_config.json": "sha256:1"})
WHOLE = Bundle(
    route="tutor",
    base_model="base",
    base_revision="sha256:rev",
    adapter=ADAPTER,
    dataset_version="sha256:data",
    dataset_code="sha256:code",
    training={"seed": 17},
    system_prompt="Ask.",
    temperature=0.0,
    max_tokens=96,
    evals={"guiding": SuiteScore(version="v1", score=0.9, low=0.8, high=1.0, n=10)},
    routing={"stages": []},
)
CHANGES = {
    "route": "other",
    "base_model": "base2",
    "base_revision": "sha256:rev2",
    "adapter": ADAPTER.model_copy(update={"digest": "sha256:" + "b" * 64}),
    "dataset_version": "sha256:data2",
    "dataset_code": "sha256:code2",
    "training": {"seed": 18},
    "system_prompt": "Ask!",
    "temperature": 0.1,
    "max_tokens": 97,
    "chat_template_kwargs": {"enable_thinking": False},
    "system_place": "first_user",
    "evals": {},
    "routing": {"stages": [1]},
    "parent": "sha256:" + "c" * 64,
    "merged": Merged(digest="sha256:" + "d" * 64, files={}),
}


def test_every_field_is_part_of_the_identity():
    assert set(CHANGES) == set(Bundle.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_changing_one_part_changes_the_digest(field):
    assert WHOLE.model_copy(update={field: CHANGES[field]}).digest != WHOLE.digest


def test_the_digest_survives_json():
    assert Bundle.model_validate_json(WHOLE.model_dump_json()).digest == WHOLE.digest


def test_bundles_that_were_made_before_a_part_was_known_keep_their_digest():
    before = WHOLE.model_dump(mode="json")
    assert not {"chat_template_kwargs", "system_place", "parent", "merged"} & before.keys()
    assert Bundle.model_validate(before).digest == digest_of(before)


def test_names_carry_digests_so_that_they_are_never_used_twice():
    other_prompt = WHOLE.model_copy(update={"system_prompt": "Ask!"})
    assert WHOLE.served_name == other_prompt.served_name == "tutor-aaaaaaaaaaaa"
    assert WHOLE.variant_name != other_prompt.variant_name
    base = WHOLE.model_copy(update={"adapter": None})
    assert base.served_name == "base"
    assert base.variant_name.startswith("base-")


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValidationError):
        Bundle.model_validate(WHOLE.model_dump() | {"temperature": float("nan")})
