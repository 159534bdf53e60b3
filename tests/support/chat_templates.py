"""Chat templates that packages ship, on a tokenizer of single letters that knows their control tokens."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from tiny_model import tiny_tokenizer

from tasks.training.chat import Chat

FOLDER_NAME = "chat_templates"
CONTROL = re.compile(
    r"<\|[A-Za-z_]+\|?>|<[a-z_]+\|>|<｜[^｜]+｜>|<(?:start|end)_of_(?:turn|utterance|image)>|</?s>|\[/?INST\]|\[/?[A-Z_]+\]"
)

# Not shipped by TRL: the shapes of Mistral v0.3, Phi 4, Granite 3 and Llama 2.
WRITTEN = {
    "mistral_v0_3": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
        "{{ m['content'] }}[/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
    ),
    "phi4": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
    ),
    "granite3": (
        "{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>{{ m['content'] }}<|end_of_text|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    "llama2": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
        "{% elif m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'].strip() + ' </s>' }}{% endif %}{% endfor %}"
    ),
}


@cache
def templates() -> dict[str, str]:
    """By name: all that the installed TRL ships as models' own, and the four above."""
    import trl

    folder = Path(trl.__file__).parent / FOLDER_NAME
    shipped = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
    return {name: text for name, text in shipped.items() if not name.endswith("_training")} | WRITTEN


def tokenizer_for(template: str, *stops: str) -> Any:
    """Letters, and each control token of the template as one token; the first stop token is the tokenizer's own."""
    tokenizer = tiny_tokenizer(template)
    found = sorted({*CONTROL.findall(template), *stops, "<s>"})
    tokenizer.add_special_tokens({"additional_special_tokens": [t for t in found if t not in tokenizer.get_vocab()]})
    tokenizer.bos_token, tokenizer.eos_token = "<s>", stops[0]
    return tokenizer


def chat_for(name: str, *stops: str, **kwargs: Any) -> Chat:
    """The named template as training uses it."""
    tokenizer = tokenizer_for(templates()[name], *stops)
    return Chat(tokenizer, frozenset(tokenizer.convert_tokens_to_ids(list(stops))), kwargs)
