"""Whether a route's prompts leave room for a question: vLLM refuses what exceeds the context, prompt and answer."""

from pathlib import Path

from configs.errors import ConfigError, Problem
from configs.model import ModelConfig
from configs.prompts import Prompts
from tasks.training.chat import open_chat

SHORTEST = [{"role": "user", "content": "?"}]


def require_room(prompts: Prompts, model: ModelConfig, tokenizer_folder: Path) -> None:
    """Raises ConfigError for each system prompt beside which not even the shortest question fits."""
    context, answer = model.max_context_tokens, prompts.sampling.max_tokens
    chat = open_chat(tokenizer_folder, prompts.chat_template_kwargs)
    problems = []
    for name, text in (("base", prompts.base), ("adapter", prompts.adapter)):
        asked = len(chat.tokens(chat.render(chat.with_system(SHORTEST, text), add_generation_prompt=True)))
        if asked + answer > context:
            what = f"{asked} tokens with the shortest question, and sampling.max_tokens {answer} of an answer"
            cure = "shorten the prompt, lower sampling.max_tokens, or raise max_context_tokens in model.yaml"
            exceeded = f"{what}, exceed the model's max_context_tokens {context}: vLLM would refuse every request"
            problems.append(Problem(f"prompts.yaml: {name}", exceeded, cure))
    if problems:
        raise ConfigError("the system prompts leave no room for a question", problems=problems)
