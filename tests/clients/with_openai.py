"""The official package for Python."""

import json
from typing import Any

import openai
from scenario import ANSWER, HALFWAY, KEY, PARAMETERS, QUESTION, URL, USED_UP, WRONG, status_of, tell


def client(key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=URL, api_key=key, max_retries=0)


def chat() -> dict[str, Any]:
    ask = client().chat.completions
    said: list[Any] = [{"role": "user", "content": QUESTION}]
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    found: dict[str, Any] = {"plain": ask.create(model="tutor", messages=said).choices[0].message.content}
    with ask.stream(model="tutor", messages=said, stream_options={"include_usage": True}) as stream:
        whole = stream.get_final_completion()
    found["streamed"], found["tokens"] = whole.choices[0].message.content, whole.usage.total_tokens
    message = ask.create(model="tutor", messages=said, tools=tools).choices[0].message
    found["tool"] = _call(message.tool_calls[0].function)
    with ask.stream(model="tutor", messages=said, tools=tools) as stream:
        found["streamed_tool"] = _call(stream.get_final_completion().choices[0].message.tool_calls[0].function)
    said += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    found["after_tool"] = ask.create(model="tutor", messages=said, tools=tools).choices[0].message.content
    found["json"] = json.loads(
        ask.create(model="tutor", messages=said[:1], response_format=form).choices[0].message.content
    )

    def one(key: str = KEY, model: str = "tutor") -> Any:
        return client(key).chat.completions.create(model=model, messages=said[:1])

    found["errors"] = _errors(one)
    with ask.create(model="tutor", messages=[{"role": "user", "content": HALFWAY}], stream=True) as stream:
        found["aborted_after"] = next(c.choices[0].delta.content for c in stream if c.choices[0].delta.content)
    return found


def responses() -> dict[str, Any]:
    ask = client().responses
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]
    form: Any = {"format": {"type": "json_schema", "name": "answer", "schema": ANSWER, "strict": True}}
    found: dict[str, Any] = {"plain": ask.create(model="tutor", input=QUESTION).output_text}
    with ask.stream(model="tutor", input=QUESTION) as stream:
        whole = stream.get_final_response()
    found["streamed"], found["tokens"] = whole.output_text, whole.usage.total_tokens
    answer = ask.create(model="tutor", input=QUESTION, tools=tools)
    found["tool"] = _call(answer.output[0])
    with ask.stream(model="tutor", input=QUESTION, tools=tools) as stream:
        found["streamed_tool"] = _call(stream.get_final_response().output[0])
    result: Any = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "sunny"}
    said: Any = [{"role": "user", "content": QUESTION}, *answer.output, result]
    found["after_tool"] = ask.create(model="tutor", input=said, tools=tools).output_text
    found["json"] = json.loads(ask.create(model="tutor", input=QUESTION, text=form).output_text)

    def one(key: str = KEY, model: str = "tutor") -> Any:
        return client(key).responses.create(model=model, input=QUESTION)

    found["errors"] = _errors(one)
    with ask.create(model="tutor", input=HALFWAY, stream=True) as stream:
        found["aborted_after"] = next(one.delta for one in stream if one.type == "response.output_text.delta")
    return found


def _call(function: Any) -> dict[str, Any]:
    return {"name": function.name, "arguments": json.loads(function.arguments)}


def _errors(one: Any) -> dict[str, Any]:
    return {
        "wrong_key": status_of(lambda: one(key=WRONG))["status"],
        "no_model": status_of(lambda: one(model="nothing"))["status"],
        "used_up": status_of(lambda: one(key=USED_UP)),
    }


tell(chat=chat(), responses=responses())
