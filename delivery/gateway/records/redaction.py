"""What is taken out of users' and models' texts before they leave the gateway's memory."""

from collections.abc import Sequence
from typing import Any

from configs.contract import JUDGED_CHARS
from configs.patterns import compiled, substitute, template
from configs.traffic_log import Redaction

TEXT_CHARS = JUDGED_CHARS  # of a text are shown, answers among them
EDGE_CHARS = 100


class Redactor:
    """Rules, applied in this order."""

    def __init__(self, rules: Sequence[Redaction]):
        patterns = [(compiled(rule.pattern), rule.replacement) for rule in rules]
        self._rules = [(pattern, template(pattern, replacement)) for pattern, replacement in patterns]

    def of(self, value: Any) -> Any:
        """Every text within; one that is cut loses its last characters, where half of a secret would pass the rules."""
        if isinstance(value, dict):
            return {self.of(key): self.of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if not isinstance(value, str):
            return value
        text = value[:TEXT_CHARS]
        for pattern, replacement in self._rules:
            text = substitute(pattern, replacement, text)
        return text[:-EDGE_CHARS] if len(value) >= TEXT_CHARS else text
