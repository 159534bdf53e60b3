"""What may happen to a text on its way to training: four small repairs, each with a name to count by."""

import re
import unicodedata
from collections.abc import Iterable

BYTE_ORDER_MARK = "\ufeff"

FOREIGN = re.compile(
    r"<\|[^\s<>|](?:[^<>|\n]{0,62}[^\s<>|])?\|>"  # ChatML, Llama 3, Phi, Granite, gpt-oss, Cohere
    r"|<｜[^<>｜\n]{1,64}｜>"  # DeepSeek
    r"|\[\|[a-z]{1,20}\|\]"  # EXAONE
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|PREFIX|SUFFIX|MIDDLE|gMASK)\]"
    r"|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk|mask|sop|eop)>|<(?:BOS|EOS|PAD|UNK|MASK)_TOKEN>"
    r"|<(?:start|end)_of_(?:turn|image|audio|role|text)>|<(?:unused|extra_id_|reserved_)\d+>"
)
"""Control tokens by their usual forms, whichever model has them."""


def repaired(text: str) -> tuple[str, list[str]]:
    """The text without a leading byte order mark and outer white space, in Unicode NFC, with \\n as its only line end.

    Comes with the names of the repairs that were needed. Rows that read the same are the same afterwards.
    """
    kinds = []
    if text.startswith(BYTE_ORDER_MARK):
        text = text.lstrip(BYTE_ORDER_MARK)
        kinds.append("byte-order-mark")
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        kinds.append("unicode-nfc")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        kinds.append("line-ends")
    if (stripped := text.strip()) != text:
        text = stripped
        kinds.append("outer-space")
    return text, kinds


class ControlTokens:
    """Which texts hold something that a chat template or a tokenizer would take for more than text."""

    def __init__(self, special: Iterable[str] = (), written_by_template: Iterable[str] = ()):
        """`special` are never text. Those of `written_by_template` (say, <think>) only an assistant may write."""
        self._special = _any_of(special)
        self._written = _any_of(written_by_template)

    def own(self, text: str, role: str) -> str | None:
        """The first token of the base model itself in a text of this role."""
        patterns = [self._special, None if role == "assistant" else self._written]
        for spelled in {text} if text.isascii() else {text, unicodedata.normalize("NFKC", text)}:
            for pattern in patterns:
                if pattern is not None and (found := pattern.search(spelled)):
                    return found[0]
        return None

    @staticmethod
    def foreign(text: str) -> str | None:
        """The first text that has the form of some model's control token."""
        found = FOREIGN.search(text) if ("<" in text or "[" in text) else None
        return found[0] if found else None


def _any_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    listed = sorted({token for token in tokens if token.strip()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed))) if listed else None
