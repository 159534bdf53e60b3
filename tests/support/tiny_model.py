"""A chat model of a few thousand weights, built in a second: the smallest thing that trains like a real one."""

from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer(template: str = CHATML, merges: tuple[tuple[str, str], ...] = ()) -> Any:
    """Byte-level: every character is a token or more, but for `merges`; <|im_end|> (id 1) ends a turn."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    # one merge, so that a token can lie across the edge of an answer that starts with a newline
    merges = (("Ċ", "Ċ"), *merges)
    vocabulary |= {left + right: len(vocabulary) + n for n, (left, right) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = template
    return fast


def save_tiny_model(folder: Path, context_tokens: int = 512, hidden_size: int = 32) -> Path:
    """A random Llama with that tokenizer, as safetensors. vLLM on a CPU wants 32 in each of its two heads or more."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=272,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context_tokens,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
        initializer_range=0.2,  # at 0.02 so small a model says nothing that a LoRA could change
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def conversation(number: int, turns: int = 1) -> list[dict[str, str]]:
    """A few turns whose lengths differ from row to row."""
    messages = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"What is {number} + {turn}?" + "!" * (number % 5)})
        messages.append({"role": "assistant", "content": f"Which number comes after {number + turn}?"})
    return messages
