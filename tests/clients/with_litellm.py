"""litellm as a library, over both APIs."""

import json
from typing import Any

import litellm
from scenario import ANSWER, HALFWAY, KEY, PARAMETERS, QUESTION, URL, USED_UP, WRONG, status_of, tell

litellm.suppress_debug_info = True  # it prints to where the answers go
# Of a model that it has not heard of it fetches the whole answer first, and plays it back as a stream.
litellm.register_model({"openai/tutor": {"litellm_provider": "openai", "supports_native_streaming": True}})


def chat() -> dict[str, Any]:
    def ask(said: Any = QUESTION, key: str = KEY, model: str = "tutor", **more: Any) -> Any:
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        return litellm.completion(
            model=f"openai/{model}", messages=messages, api_base=URL, api_key=key, max_retries=0, **more
        )

    tools = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    found: dict[str, Any] = {"plain": ask().choices[0].message.content}
    whole = litellm.stream_chunk_builder(list(ask(stream=True, stream_options={"include_usage": True})))
    found["streamed"], found["tokens"] = whole.choices[0].message.content, whole.usage.total_tokens
    message = ask(tools=tools).choices[0].message
    found["tool"] = _call(message.tool_calls[0].function)
    streamed = litellm.stream_chunk_builder(list(ask(tools=tools, stream=True)))
    found["streamed_tool"] = _call(streamed.choices[0].message.tool_calls[0].function)
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    found["after_tool"] = (
        ask([{"role": "user", "content": QUESTION}, message, result], tools=tools).choices[0].message.content
    )
    found["json"] = json.loads(ask(response_format=form).choices[0].message.content)
    found["errors"] = _errors(ask)
    stream = ask(HALFWAY, stream=True)
    found["aborted_after"] = next(c.choices[0].delta.content for c in stream if c.choices[0].delta.content)
    stream.completion_stream.close()
    return found


def responses() -> dict[str, Any]:
    def ask(said: Any = QUESTION, key: str = KEY, model: str = "tutor", **more: Any) -> Any:
        return litellm.responses(model=f"openai/{model}", input=said, api_base=URL, api_key=key, max_retries=0, **more)

    tools = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]
    form = {"format": {"type": "json_schema", "name": "answer", "schema": ANSWER, "strict": True}}
    found: dict[str, Any] = {"plain": ask().output_text}
    *_, last = ask(stream=True)
    found["streamed"], found["tokens"] = last.response.output_text, last.response.usage.total_tokens
    answer = ask(tools=tools)
    found["tool"] = _call(answer.output[0])
    *_, last = ask(tools=tools, stream=True)
    found["streamed_tool"] = _call(last.response.output[0])
    result = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "sunny"}
    said = [{"role": "user", "content": QUESTION}, answer.output[0].model_dump(exclude_none=True), result]
    found["after_tool"] = ask(said, tools=tools).output_text
    found["json"] = json.loads(ask(text=form).output_text)
    found["errors"] = _errors(ask)
    stream = ask(HALFWAY, stream=True)
    found["aborted_after"] = next(one.delta for one in stream if one.type == "response.output_text.delta")
    stream.response.close()
    return found


def _call(function: Any) -> dict[str, Any]:
    return {"name": function.name, "arguments": json.loads(function.arguments)}


def _errors(ask: Any) -> dict[str, Any]:
    return {
        "wrong_key": status_of(lambda: ask(key=WRONG))["status"],
        "no_model": status_of(lambda: ask(model="nothing"))["status"],
        "used_up": status_of(lambda: ask(key=USED_UP)),
    }


tell(chat=chat(), responses=responses())
