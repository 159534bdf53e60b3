"""Preference pairs: read as they will be served, proven before a step is spent, and the preference moves their way."""

import json

import pytest
from tiny_model import save_tiny_model, tiny_tokenizer

from configs.errors import SlipwayError
from configs.training import DpoSettings, LoraSettings, TrainingConfig
from delivery.clients.bundles import adapters as adapter_store
from tasks.training.chat import Chat

CONFIG = TrainingConfig(
    method="dpo",
    dpo=DpoSettings(beta=0.5),
    lora=LoraSettings(rank=4, alpha=8),
    batch_size=4,
    learning_rate=0.01,
    epochs=3,
)


def pair(number, chosen="Which number comes next?", rejected="The answer is known."):
    return {
        "id": f"p{number}",
        "prompt": [{"role": "user", "content": f"What is {number} + 1?"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


@pytest.fixture(scope="module")
def chat():
    return Chat(tiny_tokenizer(), frozenset({1}))


@pytest.fixture(scope="module")
def dpo():
    from tasks.training.methods import dpo

    return dpo


def read(dpo, chat, *rows, config=CONFIG):
    return dpo.read(rows, chat, "Be brief.", config)


def test_both_answers_stand_behind_the_prompt_that_is_served(dpo, chat):
    (found,) = read(dpo, chat, pair(1)).all
    served = [{"role": "system", "content": "Be brief."}, pair(1)["prompt"][0]]
    sent = chat.tokenizer.apply_chat_template(served, add_generation_prompt=True)["input_ids"]
    assert found.prompt_ids == sent
    assert (found.chosen, found.rejected) == ("Which number comes next?<|im_end|>", "The answer is known.<|im_end|>")


def test_a_pair_may_stand_among_a_rows_other_fields(dpo, chat):
    given = pair(1)
    row = {"id": "p1", "messages": [*given["prompt"], *given["chosen"]], "fields": {"rejected": given["rejected"]}}
    assert read(dpo, chat, row).all == read(dpo, chat, given).all


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rejected": None}, "it has no rejected, found .*set `method: sft`"),
        ({"chosen": [{"role": "user", "content": "?"}]}, "exactly one message of the assistant"),
        ({"rejected": pair(1)["chosen"]}, "neither is preferred"),
        ({"chosen": [{"role": "assistant", "content": "a<|im_end|>b"}]}, "holds the control token"),
        ({"chosen": [{"role": "assistant", "content": "x" * 600}]}, "max_sequence_tokens is 512"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_with_its_reason(dpo, chat, change, word):
    with pytest.raises(SlipwayError, match=rf"(?s)row p2: .*{word}") as caught:
        read(dpo, chat, pair(1), pair(2) | change)
    assert len(caught.value.problems) == 1


def test_the_audit_stops_a_collator_that_puts_the_loss_elsewhere(dpo, chat):
    import torch

    items = read(dpo, chat, pair(1))
    found = items.all[0]
    rows = [found.prompt_ids + found.chosen_ids, found.prompt_ids + found.rejected_ids]
    width = max(map(len, rows))
    batch = {
        "input_ids": torch.tensor([row + [1] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        "completion_mask": torch.tensor([[int(at >= len(found.prompt_ids)) for at in range(width)]] * 2),
    }
    proof = dpo.audit(items, [(0, batch)], chat.tokenizer)
    assert proof["samples"][0]["rejected"] == "The answer is known.<|im_end|>"
    assert proof["loss_tokens"] < proof["tokens"]
    batch["completion_mask"][:, len(found.prompt_ids) - 1] = 1
    with pytest.raises(SlipwayError, match="row p1 would be trained wrongly"):
        dpo.audit(items, [(0, batch)], chat.tokenizer)


@pytest.mark.live
def test_training_moves_the_preference_in_the_direction_of_the_pairs_also_for_prompts_it_has_not_seen(
    dpo, chat, tmp_path
):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tasks.training.run import TrainingRun, run_training

    torch.set_num_threads(1)
    model = save_tiny_model(tmp_path / "model")
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(json.dumps(pair(number)) + "\n" for number in range(12)))
    run = TrainingRun(
        rows=rows, model=model, model_revision="sha256:b", config=CONFIG, system_prompt="Be brief.", folder=tmp_path
    )
    events = []
    run_training(run, events.append)

    def margin(network):
        """How much likelier the chosen answer is than the rejected one, in nats, over unseen prompts."""
        total = 0.0
        for found in read(dpo, chat, pair(77), pair(98)).all:
            for answer, sign in ((found.chosen_ids, 1), (found.rejected_ids, -1)):
                ids = torch.tensor([found.prompt_ids + answer])
                with torch.no_grad():
                    logits = network(input_ids=ids).logits[0, len(found.prompt_ids) - 1 : -1].float()
                total += sign * torch.log_softmax(logits, -1)[range(len(answer)), answer].sum().item()
        return total / 2

    base = AutoModelForCausalLM.from_pretrained(model)
    before = margin(base)
    after = margin(PeftModel.from_pretrained(base, tmp_path / "adapter"))
    assert after > before + 2, (before, after)
    steps = [event for event in events if event["event"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, 10))
    assert steps[0]["loss"] == pytest.approx(0.693, abs=0.02)  # ln 2: the LoRA starts as the reference model
    assert steps[-1]["loss"] < 0.5
    assert steps[-1]["tokens"] > 0
    assert json.loads((tmp_path / "mask_audit.json").read_text())["rows"] == 12

    went_on = []
    again = {"folder": tmp_path / "went-on", "parent": tmp_path / "adapter"}
    (tmp_path / "went-on").mkdir()
    run_training(run.model_copy(update=again), went_on.append)
    begun = [event["loss"] for event in went_on if event["event"] == "step"]
    assert begun[0] == pytest.approx(0.693, abs=0.02)  # its reference is its parent, not the base model
    assert {path.name for path in (tmp_path / "went-on" / "adapter").iterdir()} == set(adapter_store.FILES)
