"""The report that a person reads: whole in itself, safe whatever a model says, and the same bytes each time."""

import re
from html.parser import HTMLParser

from documents_of import dataset_manifest, eval_report

from delivery.build.bundle import Adapter, Bundle
from delivery.build.comparison import ReportBasis
from delivery.build.documents.origin import DocumentBasis
from delivery.build.documents.page import page
from delivery.build.gate import GateDecision, GateFinding
from evals.report import EvalReport, SampleScore
from evals.samples import Sample, SampleTurn
from evals.summaries import summarise

HOSTILE = '<script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>'
BUNDLE = Bundle(
    route="tutor",
    base_model="smollm2-135m",
    base_revision="sha256:" + "3" * 64,
    adapter=Adapter(digest="sha256:" + "a" * 64, rank=8, files={}),
    dataset_version="sha256:" + "4" * 64,
    dataset_code=None,
    training={"method": "sft", "seed": 17},
    system_prompt="Ask.",
    temperature=0.0,
    max_tokens=96,
)
SAMPLES = {
    f"s{n}": Sample(
        id=f"s{n}",
        messages=(
            SampleTurn(role="user", content=f"question {n}"),
            SampleTurn(role="assistant"),
            SampleTurn(role="user", content="go on"),
        ),
        fields={"kind": "odd" if n % 2 else "even"},
    )
    for n in range(8)
}


def report(name: str, wrong: int, output: str, tokens: float) -> EvalReport:
    samples = [
        SampleScore(id=one, score=float(n >= wrong), reason="" if n >= wrong else "asks nothing", output=output)
        for n, one in enumerate(SAMPLES)
    ]
    suites = {"guides": summarise("guides", "v1", "behaviour", samples)}
    return EvalReport(subject=name, model=name, system_prompt=None, prompt_tokens_mean=tokens, suites=suites)


def rendered(output: str = "No.\n---\nThe answer is 12.", **changes: object) -> str:
    finding = GateFinding(suite="guides", limit="max_drop 0.10", verdict="fail", sentence="guides: it drops")
    comparison = ReportBasis(
        decision=GateDecision(passed=False, findings=(finding,)),
        production=report("tutor-old", 0, "What?\n---\nWhy?", 200.0),
        asked={"guides": SAMPLES},
        trained_tokens=53_120,
    ).model_copy(update=changes)
    origin = DocumentBasis(builder="0.1.0", base_source="package", dataset=dataset_manifest("lessons"))
    return page(BUNDLE, origin, report("tutor-new", 6, output, 60.0), comparison).decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_it_says_what_the_gate_found_what_it_was_trained_on_and_what_it_cost() -> None:
    said = text_of(rendered())
    for words in (
        "refused by the eval gate",
        "0 of 1 limits are kept",
        "compared with tutor-old",
        "guides max_drop 0.10 it drops",
        "candidate 0.25 [0.07, 0.59] , n=8",
        "-0.75",
        "rows read 12",
        "Dataset lessons",
        "tokens in training 53,120",
        "saved beside production 140",
        "method: sft",
        "How these settings were chosen is not on record.",
    ):
        assert words in said, words


def test_the_worst_answers_stand_beside_productions_turn_by_turn() -> None:
    said = text_of(rendered())
    assert "production question 0 What? go on Why? candidate question 0 No. go on The answer is 12." in said


def test_slices_are_told() -> None:
    assert re.search(r"guides kind even 4 1\.00 \[0\.51, 1\.00\] 0\.25", text_of(rendered()))


def test_every_interval_is_drawn_inside_its_scale() -> None:
    places = [float(x) for x in re.findall(r'(?:x1|x2|cx)="([\d.-]+)"', rendered())]
    assert len(places) > 8
    assert all(0 <= place <= 500 for place in places)


def test_what_a_model_says_stays_text_and_nothing_is_fetched() -> None:
    html = rendered(HOSTILE)
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.feed(html)
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in tags}
    assert not [found for _, found in tags if {"src", "href", "onerror"} & found.keys()]
    assert "url(" not in html
    assert "@import" not in html
    assert "&lt;script src=" in html
    assert "default-src 'none'" in html


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert rendered() == rendered()


def test_a_production_that_answered_nothing_or_another_suite_is_told_and_not_drawn() -> None:
    other = eval_report()
    said = text_of(rendered(production=other))
    assert "not comparable" in said
    assert "No conversation is answered worse than by production." in said
