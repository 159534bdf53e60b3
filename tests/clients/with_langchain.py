"""langchain-openai, over both APIs."""

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from scenario import ANSWER, HALFWAY, KEY, PARAMETERS, QUESTION, URL, USED_UP, WRONG, status_of, tell

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


def used(over_responses: bool) -> dict[str, Any]:
    def model(key: str = KEY, name: str = "tutor") -> ChatOpenAI:
        return ChatOpenAI(
            model=name, base_url=URL, api_key=key, max_retries=0, stream_usage=True, use_responses_api=over_responses
        )

    with_tools = model().bind_tools([WEATHER])
    found: dict[str, Any] = {"plain": model().invoke(QUESTION).text}
    *_, whole = _sums(model().stream(QUESTION))
    found["streamed"], found["tokens"] = whole.text, whole.usage_metadata["total_tokens"]
    message = with_tools.invoke(QUESTION)
    found["tool"] = _call(message)
    *_, streamed = _sums(with_tools.stream(QUESTION))
    found["streamed_tool"] = _call(streamed)
    said = [HumanMessage(QUESTION), message, ToolMessage("sunny", tool_call_id=message.tool_calls[0]["id"])]
    found["after_tool"] = with_tools.invoke(said).text
    found["json"] = model().with_structured_output(ANSWER, method="json_schema").invoke(QUESTION)
    found["errors"] = {
        "wrong_key": status_of(lambda: model(WRONG).invoke(QUESTION))["status"],
        "no_model": status_of(lambda: model(name="nothing").invoke(QUESTION))["status"],
        "used_up": status_of(lambda: model(USED_UP).invoke(QUESTION)),
    }
    stream = model().stream(HALFWAY)
    found["aborted_after"] = next(part.text for part in stream if part.text)
    stream.close()
    return found


def _sums(parts: Any) -> Any:
    whole = None
    for part in parts:
        whole = part if whole is None else whole + part
        yield whole


def _call(message: Any) -> dict[str, Any]:
    (call,) = message.tool_calls
    return {"name": call["name"], "arguments": call["args"]}


tell(chat=used(False), responses=used(True))
