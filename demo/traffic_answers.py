"""Whether an answer is one that a user may expect: with content, whole, and no error dressed up as HTTP 200."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SeenAnswer:
    """What came back so far; `problem` says what is wrong with it as a whole, "" if nothing."""

    text: str = ""
    finished: bool = False
    done: bool = True
    error: str = ""
    tokens: int = 0
    deltas: int = field(default=0, repr=False)

    @property
    def problem(self) -> str:
        """Empty, cut and failed answers are told apart."""
        if self.error:
            return self.error
        if not self.text.strip():
            return "empty answer"
        if not self.finished:
            return "no finish_reason"
        return "" if self.done else "stream ended without [DONE]"

    def take_event(self, data: str) -> None:
        """One `data:` line of a stream."""
        if data == "[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            self.error = f"not JSON: {data[:100]}"
            return
        self.take(event, "delta")

    def take(self, body: Any, part: str = "message") -> None:
        """A whole answer, or a stream's event."""
        if not isinstance(body, dict) or body.get("error"):
            self.error = f"error instead of an answer: {str(body)[:200]}"
            return
        for choice in body.get("choices") or []:
            content = (choice.get(part) or {}).get("content") or ""
            self.text += content
            self.deltas += bool(content)
            self.finished = self.finished or bool(choice.get("finish_reason"))
        usage = body.get("usage") or {}
        self.tokens = usage.get("completion_tokens") or self.tokens or self.deltas
