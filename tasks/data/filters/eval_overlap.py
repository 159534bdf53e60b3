"""Rows that hold questions of the eval suites, where the recipe says `eval_overlap: drop`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs.canonical import digest_bytes, digest_of
from delivery.build import overlap
from delivery.build.layouts.row import Unusable
from delivery.build.overlap import Questions, SuiteQuestion
from delivery.build.rows import Example
from delivery.build.steps import RowStep, StepRecord

VERSION = 1
SHOWN_CHARS = 100


def overlap_step(asked: Sequence[SuiteQuestion]) -> RowStep:
    """The suites' questions are part of the step: other questions make another version."""
    record = StepRecord(
        name="eval_overlap",
        version=VERSION,
        settings={"questions": len(asked), "digest": digest_of([[one.suite, one.sample, one.text] for one in asked])},
        code=digest_bytes(Path(overlap.__file__).read_bytes()),
    )
    return RowStep(record, partial(_judge, Questions(asked)))


def _judge(questions: Questions, example: Example) -> Example:
    texts = [message["content"] for message in (*example.messages, *example.chosen)]
    found = questions.in_row(texts)
    if found:
        number, share = max(found.items(), key=lambda item: (item[1], -item[0]))
        one = questions.asked[number]
        how = "asks" if share == 1 else f"holds {share:.0%} of"
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        said = f"it {how} {one.suite}/{one.sample}: {one.text[:SHOWN_CHARS]!r}{more}"
        raise Unusable("eval-overlap", said)
    return example
