"""vLLM as lm-eval's model: the questions of its hf backend, token by token, asked over HTTP.

Only the process that runs lm-eval imports this. lm-eval's own client for such servers adds no special tokens at all,
where its hf backend does as the tokenizer does: models that were trained with a BOS token fall far without it.
"""

from collections.abc import Mapping
from typing import Any

from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.models.utils import has_bos_prefix

from tasks import child


class VllmModel(LocalCompletionsAPI):  # type: ignore[misc]
    """lm-eval shows its progress on a terminal only; here each answer is an event."""

    def __init__(self, order: Mapping[str, Any], report: child.OnWorkerEvent):
        self.done = self.total = 0
        self.report = report
        super().__init__(
            model=order["model"],
            base_url=order["base_url"],
            tokenizer=order["tokenizer"],
            tokenizer_backend="huggingface",
            num_concurrent=max(2, order["concurrency"]),  # with 1, lm-eval takes another path, without the calls below
            max_retries=3,
            max_length=order["max_length"],
            batch_size=1,
        )

    def tok_encode(
        self,
        string: Any,
        left_truncate_len: int | None = None,
        add_special_tokens: bool | None = None,
        truncation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Tokens of one text, or of several; special ones as the tokenizer adds them, unless a text begins with BOS."""
        if not isinstance(string, str):  # the questions that are answered in words; here the caller always says False
            return [self.tok_encode(text, left_truncate_len) for text in string]
        kind = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            kind = {"add_special_tokens": False}
        tokens = self.tokenizer.encode(string, **kind)
        return tokens[-left_truncate_len:] if left_truncate_len else tokens

    def _create_payload(self, messages: Any, generate: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Log-likelihoods as vLLM gives them for the asked tokens alone: a quarter faster than with the best ones."""
        if generate:
            return dict(super()._create_payload(messages, generate=True, **kwargs))
        return {"model": self.model, "prompt": messages, "temperature": 0, "max_tokens": 1, "prompt_logprobs": 0}

    @staticmethod
    def parse_logprobs(
        outputs: Any, tokens: Any = None, ctxlens: Any = None, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Of each continuation the sum of its tokens' log-probabilities, and whether each token was the likeliest."""
        whole = outputs if isinstance(outputs, list) else [outputs]
        choices = [choice for out in whole for choice in sorted(out["choices"], key=lambda choice: choice["index"])]
        found = []
        for choice, context in zip(choices, ctxlens, strict=True):
            asked = [one for place in choice["prompt_logprobs"][context:] for one in place.values()]
            found.append((sum(one["logprob"] for one in asked), all(one["rank"] == 1 for one in asked)))
        return found

    async def get_batched_requests(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        """As lm-eval, counted."""
        self.total += len(requests)
        return await super().get_batched_requests(requests, *args, **kwargs)

    async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
        """As lm-eval, counted."""
        answer = await super().amodel_call(*args, **kwargs)
        self.done += 1
        self.report({"event": "progress", "done": self.done, "total": self.total, "text": "capability questions"})
        return answer
