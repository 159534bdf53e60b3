"""What a chat template will do to prompts is known in a second: no tokenizer, no weights."""

import json

import pytest
from chat_templates import templates
from tiny_model import CHATML

from tasks.training.template import (
    ChatTemplate,
    problems_with_template,
    read_template,
    system_place,
    takes_tools,
)

DATED = CHATML.replace("{% for", "{{ strftime_now('%d %B %Y') }}{% for", 1)


def found(text, **kwargs):
    template = ChatTemplate(text, {"bos_token": "<s>", "eos_token": "</s>"})
    return [str(problem) for problem in problems_with_template(template, kwargs)]


@pytest.mark.parametrize("name", sorted(set(templates()) - {"gptoss", "llama3_1", "llama3_2"}))
def test_the_templates_that_packages_ship_say_the_same_every_day(name):
    assert found(templates()[name]) == []


def test_a_template_that_writes_the_day_is_refused_with_the_setting_that_pins_it():
    (problem,) = found(templates()["llama3_2"])
    assert "it writes the day's date into every prompt" in problem
    assert 'chat_template_kwargs: {date_string: "26 Jul 2026"}' in problem
    assert found(templates()["llama3_2"], date_string="30 Nov 2026") == []


@pytest.mark.parametrize("text", [templates()["gptoss"], DATED])
def test_one_that_knows_no_such_setting_is_to_be_written_anew(text):
    (problem,) = found(text)
    assert "write a date into the template" in problem


def test_settings_that_the_template_does_not_read_are_named_with_those_that_it_does():
    (problem,) = found(templates()["qwen3"], enable_thinkin=False)
    assert "chat_template_kwargs.enable_thinkin" in problem
    assert "the template reads enable_thinking" in problem
    assert found(templates()["qwen3"], enable_thinking=False) == []


def test_a_template_that_refuses_even_a_question_is_told_in_its_own_words():
    (problem,) = found("{{ raise_exception('only for completions') }}")
    assert "it refuses a system prompt and a question: only for completions" in problem
    assert "leaves the user's question out" in found("Hello.")[0]


@pytest.mark.parametrize(
    ("name", "place"), [("gemma", "first_user"), ("llama2", "first_user"), ("gemma3", "system"), ("phi3", "system")]
)
def test_the_prompts_place_is_known_from_the_folder(name, place, tmp_path):
    (tmp_path / "chat_template.jinja").write_text(templates()[name])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    assert system_place(tmp_path, {}) == place
    assert read_template(tmp_path).special == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_default_of_several_templates_in_the_tokenizers_settings_counts(tmp_path):
    several = [{"name": "rag", "template": "x"}, {"name": "default", "template": CHATML}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert read_template(tmp_path).text == CHATML


def test_whether_functions_reach_the_prompt_is_known():
    taken = {
        name
        for name in ("qwen2_5", "llama3_1", "gemma", "phi3")
        if takes_tools(ChatTemplate(templates()[name], {}), {})
    }
    assert taken == {"qwen2_5", "llama3_1"}
