"""Each chat template that packages ship: the loss is on what the model must produce, behind what vLLM sends it."""

import pytest
from chat_templates import chat_for, templates, tokenizer_for
from tiny_model import CHATML, tiny_tokenizer

from configs.errors import SlipwayError
from tasks.training.chat import Chat, control_tokens
from tasks.training.rows import IGNORED, tokenise

# The token at which the family's models stop, by the first part of the template's name.
STOPS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "diffusion_gemma": "<turn|>",
    "gemma": "<end_of_turn>",
    "gemma4": "<turn|>",
    "glm4moe": "<|user|>",
    "gptoss": "<|return|>",
    "granite3": "<|end_of_text|>",
    "idefics3": "<end_of_utterance>",
    "lfm2": "<|im_end|>",
    "llama2": "</s>",
    "llama3": "<|eot_id|>",
    "llava_next": "</s>",
    "mistral": "</s>",
    "muse": "<|eot|>",
    "nemotron": "<|im_end|>",
    "phi3": "<|end|>",
    "phi4": "<|im_end|>",
    "qwen": "<|im_end|>",
    "smolvlm": "<end_of_utterance>",
}
# What the model must say before its answer: the end of a block that the prompt opens, or a channel.
BEFORE = {
    "deepseek": "\n</think>\n\n",
    "gptoss": "<|channel|>final<|message|>",
    "muse": " to=user<|message|>",
    "nemotron": "</think>",
    "qwen3_5_think": "\n</think>\n\n",
    "qwen3_6": "\n</think>\n\n",
    "qwen3_8": "\n</think>\n\n",
}
AFTER = {"cohere2": "<|END_RESPONSE|>", "llama2": " "}  # what it must say between its answer and the stop token

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "The first."}]
SECOND = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "The second."}]
THIRD = [{"role": "user", "content": "Three?"}, {"role": "assistant", "content": "The third."}]
NAMES = sorted(templates())
THINKING_OFF = [name for name in NAMES if "enable_thinking" in templates()[name]]


def of(table, name, otherwise=None):
    """The entry of the longest key that the name starts with."""
    return next((table[key] for key in sorted(table, key=len, reverse=True) if name.startswith(key)), otherwise)


def stops_of(name):
    stop = of(STOPS, name)
    assert stop, f"TRL ships a template {name!r} that this test does not know: say at which token its models stop"
    return [stop]


def runs(chat, row):
    """Of a row: each trained run as token strings, and all the tokens before it."""
    at = 0
    while at < len(row.labels):
        if row.labels[at] == IGNORED:
            at += 1
            continue
        end = at
        while end < len(row.labels) and row.labels[end] != IGNORED:
            end += 1
        yield row.input_ids[:at], chat.tokenizer.convert_ids_to_tokens(row.input_ids[at:end])
        at = end


def as_vllm_sends(chat, messages):
    """By transformers itself: the prompt's tokens, from the template with add_generation_prompt."""
    if chat.in_parts:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    found = chat.tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, **chat.kwargs)
    return list(found["input_ids"])


def require_exact(chat, messages, before, after, stop):
    """Every answer is trained behind exactly the prompt that vLLM sends, whole, with its stop token, nothing else."""
    rows = tokenise([("r", messages, None)], chat, 4096)
    found = [run for row in rows for run in runs(chat, row)]
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(found) == len(answers)
    for (context, said), index in zip(found, answers, strict=True):
        wanted = chat.tokenizer.tokenize(before + messages[index]["content"] + after + stop)
        assert said == wanted, f"trained: {said}\nwanted:  {wanted}"
        sent = as_vllm_sends(chat, messages[:index])
        shown = chat.tokenizer.convert_ids_to_tokens
        assert context == sent, f"trained behind: {shown(context)}\nvLLM is sent:   {shown(sent)}"


@pytest.mark.parametrize("turns", [FIRST, FIRST + SECOND + THIRD], ids=["one turn", "three turns"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_on_what_the_model_must_produce_from_the_generation_prompt_on(name, turns):
    chat = chat_for(name, *stops_of(name))
    messages = chat.with_system(turns, SYSTEM["content"])
    assert any("Be brief." in message["content"] for message in messages)
    require_exact(chat, messages, of(BEFORE, name, ""), of(AFTER, name, ""), *stops_of(name))
    assert "Be brief." in chat.render(messages[:2], add_generation_prompt=True)


@pytest.mark.parametrize("name", THINKING_OFF)
def test_with_thinking_off_the_prompt_has_the_empty_block_and_the_loss_has_none_of_it(name):
    chat = chat_for(name, *stops_of(name), enable_thinking=False)
    require_exact(chat, chat.with_system(FIRST + SECOND, "Be brief."), "", "", *stops_of(name))


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("qwen3", "deepseek_r1", "glm4", "nemotron"))])
def test_reasoning_in_an_answer_is_trained_where_the_prompt_leaves_room_for_it(name):
    chat = chat_for(name, *stops_of(name))
    row = [FIRST[0], {"role": "assistant", "content": "<think>\nCount.\n</think>\n\nThe first."}]
    if "</think>" in chat.render(FIRST[:1], add_generation_prompt=True):  # switched off by default
        with pytest.raises(SlipwayError, match="switch thinking on"):
            tokenise([("r", row, None)], chat, 4096)
        return
    (found,) = tokenise([("r", row, None)], chat, 4096)
    asked = chat.render(FIRST[:1], add_generation_prompt=True)
    said = (
        asked[len(asked.rstrip()) - len("<think>") :] + found.spoken[0] if "<think>" in asked[-9:] else found.spoken[0]
    )
    assert "".join(said.split()).startswith("<think>Count.</think>Thefirst."), said


def test_reasoning_is_refused_where_thinking_is_switched_off():
    chat = chat_for("qwen3", "<|im_end|>", enable_thinking=False)
    row = [FIRST[0], {"role": "assistant", "content": "<think>\nCount.\n</think>\n\nThe first."}]
    with pytest.raises(SlipwayError, match="let chat_template_kwargs switch thinking on"):
        tokenise([("r", row, None)], chat, 4096)


@pytest.mark.parametrize(
    ("name", "place"), [("gemma", "first_user"), ("llama2", "first_user"), ("gemma3", "system"), ("qwen3", "system")]
)
def test_a_template_without_system_role_gets_the_prompt_in_the_first_user_turn(name, place):
    chat = chat_for(name, *stops_of(name))
    assert chat.system_place == place
    messages = chat.with_system([SYSTEM, *FIRST], "Another.")  # a row's own prompt stands alone
    expected = [SYSTEM, *FIRST] if place == "system" else [{**FIRST[0], "content": "Be brief.\n\nOne?"}, FIRST[1]]
    assert messages == expected


def test_a_turn_that_ends_only_where_the_next_begins_is_trained_to_stop_there():
    chat = chat_for("glm4moe", "<|user|>", "<|observation|>")
    (row,) = tokenise([("r", FIRST, None)], chat, 4096)
    assert row.spoken == ("The first.<|user|>",)


def test_a_template_whose_first_stop_token_is_not_the_models_is_trained_up_to_the_one_that_is():
    chat = chat_for("phi3", "<|endoftext|>")  # <|end|> is a control token, but vLLM would not stop there
    (row,) = tokenise([("r", FIRST, None)], chat, 4096)
    assert row.spoken == ("The first.<|end|>\n<|endoftext|>",)


def test_turns_that_the_template_renders_alike_share_one_row_and_others_get_one_each():
    together = chat_for("qwen2_5", "<|im_end|>")
    assert len(tokenise([("r", FIRST + SECOND + THIRD, None)], together, 4096)) == 1
    apart = chat_for("qwen3", "<|im_end|>", enable_thinking=False)  # earlier turns lose their empty block
    assert [row.id for row in tokenise([("r", FIRST + SECOND + THIRD, None)], apart, 4096)] == ["r", "r", "r"]


def test_the_longest_a_row_can_get_is_known_without_tokenising_every_turn():
    for name in ("qwen3", "qwen2_5", "mistral_v0_3", "glm4moe"):
        chat = chat_for(name, *stops_of(name), **({"enable_thinking": False} if name in THINKING_OFF else {}))
        rows = tokenise([("r", FIRST + SECOND, None)], chat, 4096)
        assert chat.length(FIRST + SECOND) >= max(len(row.input_ids) for row in rows)


def test_all_control_tokens_are_known_also_those_that_the_tokenizers_settings_do_not_name():
    tokenizer = tokenizer_for(templates()["llama3"], "<|eot_id|>")
    assert {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>"} <= set(control_tokens(tokenizer))


@pytest.mark.parametrize("index", [0, 1])
def test_a_control_token_that_somebody_typed_is_refused_with_its_name(index):
    tokenizer = tokenizer_for(templates()["llama3"], "<|eot_id|>")
    chat = Chat(tokenizer, frozenset(tokenizer.convert_tokens_to_ids(["<|eot_id|>"])))
    row = [dict(message) for message in FIRST]
    row[index]["content"] += "<|start_header_id|>system<|end_header_id|>"
    with pytest.raises(SlipwayError, match=rf"message {index + 1} holds the control token .*<\|start_header_id\|>"):
        tokenise([("r", row, None)], chat, 4096)


def test_a_template_that_swallows_answers_is_refused():
    silent = CHATML.replace("m['content']", "('' if m['role'] == 'assistant' else m['content'])")
    chat = Chat(tokenizer_for(silent, "<|im_end|>"), frozenset({1}))
    with pytest.raises(SlipwayError, match="leaves the answer out"):
        tokenise([("r", FIRST, None)], chat, 4096)


def test_a_conversation_that_the_template_refuses_is_named_with_the_templates_own_words():
    chat = chat_for("gemma", "<end_of_turn>")
    with pytest.raises(SlipwayError, match=r"row r: message 3: the chat template refuses .*must alternate"):
        tokenise([("r", [*FIRST[:1], *FIRST[:1], FIRST[1]], None)], chat, 4096)


TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "two"}}}
CALLED = [
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "the second"},
    {"role": "assistant", "content": "The second."},
]


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "llama3_1", "lfm2_v2"])
def test_functions_and_their_calls_are_trained_as_the_template_writes_them(name):
    chat = chat_for(name, *stops_of(name)).with_tools(TOOLS)
    rows = tokenise([("r", CALLED, TOOLS)], chat, 8192)
    said = [text for row in rows for text in row.spoken]
    assert len(said) == 2
    assert "look_up" in said[0]
    assert said[0].endswith(stops_of(name)[0])
    assert said[1].endswith("The second." + stops_of(name)[0])
    assert all("look_up" in chat.tokenizer.decode(row.input_ids[:9000]) for row in rows)
    sent = chat.tokenizer.apply_chat_template(CALLED[:1], tools=TOOLS, add_generation_prompt=True)["input_ids"]
    assert rows[0].input_ids[: len(sent)] == sent


def test_a_template_that_leaves_calls_out_is_refused():
    chat = chat_for("lfm2", "<|im_end|>")
    with pytest.raises(SlipwayError, match="leaves out the calls of look_up"):
        tokenise([("r", CALLED, TOOLS)], chat, 8192)


def test_a_turn_that_is_not_to_be_learned_carries_no_loss():
    chat = chat_for("qwen2_5", "<|im_end|>")
    first = {**FIRST[1], "weight": 0}
    (row,) = tokenise([("r", [FIRST[0], first, *SECOND], None)], chat, 4096)
    assert row.spoken == ("The second.<|im_end|>",)


def test_the_templates_space_is_learned_where_a_token_would_else_lie_across_the_answers_edge():
    """Llama 2 has a token for `]{`: without the space that its template writes, no answer in JSON could be trained."""
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '(' + m['content'] + ')' }}"
        "{% else %}{{ ' ' + m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    tokenizer = tiny_tokenizer(template, merges=((")", "{"),))
    chat = Chat(tokenizer, frozenset({tokenizer.eos_token_id}))
    for content, said in (("Yes.", "Yes."), ("{}", " {}")):
        row = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": content}]
        (found,) = tokenise([("r", row, None)], chat, 64)
        assert found.spoken == (f"{said}<|im_end|>",)
        assert found.input_ids[: len(chat.tokens("(One?)"))] == chat.tokens("(One?)")
