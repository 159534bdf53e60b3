"""What a message says, in chat completions and in the items of a response alike."""

from typing import Any

SYSTEM_ROLES = frozenset(("system", "developer"))


def text_of(content: Any) -> str:
    """What a message says, whether as text or in parts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return "\n".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    return content if isinstance(content, str) else ""
