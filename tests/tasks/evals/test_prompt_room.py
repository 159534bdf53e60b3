"""Prompts that leave no room for a question are found before anything is trained."""

from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.model import ModelConfig
from configs.prompts import Prompts, Sampling
from tasks.evals.prompt_room import require_room

MODEL = ModelConfig(name="tiny", path=Path("tiny"), max_context_tokens=64)


def prompts(words: int, max_tokens: int) -> Prompts:
    """A base prompt of so many words, each one token; the chat template has six more, and one is the user's."""
    return Prompts(base="w " * words, adapter="Ask.", sampling=Sampling(max_tokens=max_tokens))


def test_what_fills_the_context_to_the_last_token_is_fine(tokenizer_folder: Path) -> None:
    require_room(prompts(27, 30), MODEL, tokenizer_folder)


def test_one_token_more_is_refused_with_the_values_and_the_cure(tokenizer_folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        require_room(prompts(28, 30), MODEL, tokenizer_folder)
    [problem] = caught.value.problems
    assert problem.where == "prompts.yaml: base"
    assert "35 tokens with the shortest question" in problem.what
    assert "sampling.max_tokens 30" in problem.what
    assert "max_context_tokens 64" in problem.what
    assert "shorten the prompt" in problem.cure


def test_both_prompts_are_told_at_once(tokenizer_folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        require_room(prompts(10, 60), MODEL, tokenizer_folder)
    assert [problem.where for problem in caught.value.problems] == ["prompts.yaml: base", "prompts.yaml: adapter"]
