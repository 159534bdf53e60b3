// The official package for JavaScript.

import OpenAI from "openai";
import { ANSWER, HALFWAY, KEY, PARAMETERS, QUESTION, URL, USED_UP, WRONG, statusOf, tell } from "./scenario.mjs";

const client = (key = KEY) => new OpenAI({ baseURL: URL, apiKey: key, maxRetries: 0 });
const read = (error) => ({ status: error.status, retry_after: error.headers?.get("retry-after") ?? null });
const call = (one) => ({ name: one.name, arguments: JSON.parse(one.arguments) });

async function errors(one) {
  return {
    wrong_key: (await statusOf(() => one({ key: WRONG }), read)).status,
    no_model: (await statusOf(() => one({ model: "nothing" }), read)).status,
    used_up: await statusOf(() => one({ key: USED_UP }), read),
  };
}

async function chat() {
  const ask = client().chat.completions;
  const messages = [{ role: "user", content: QUESTION }];
  const tools = [{ type: "function", function: { name: "weather", parameters: PARAMETERS } }];
  const response_format = { type: "json_schema", json_schema: { name: "answer", schema: ANSWER, strict: true } };
  const found = {};
  found.plain = (await ask.create({ model: "tutor", messages })).choices[0].message.content;
  const whole = await ask
    .stream({ model: "tutor", messages, stream_options: { include_usage: true } })
    .finalChatCompletion();
  found.streamed = whole.choices[0].message.content;
  found.tokens = whole.usage.total_tokens;
  const { message } = (await ask.create({ model: "tutor", messages, tools })).choices[0];
  found.tool = call(message.tool_calls[0].function);
  const streamed = await ask.stream({ model: "tutor", messages, tools }).finalChatCompletion();
  found.streamed_tool = call(streamed.choices[0].message.tool_calls[0].function);
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
  const after = await ask.create({ model: "tutor", messages: [...messages, message, result], tools });
  found.after_tool = after.choices[0].message.content;
  found.json = JSON.parse((await ask.create({ model: "tutor", messages, response_format })).choices[0].message.content);
  found.errors = await errors(({ key = KEY, model = "tutor" }) => client(key).chat.completions.create({ model, messages }));
  const halfway = [{ role: "user", content: HALFWAY }];
  for await (const chunk of await ask.create({ model: "tutor", messages: halfway, stream: true })) {
    found.aborted_after = chunk.choices[0].delta.content;
    if (found.aborted_after) break; // leaving the loop aborts the request
  }
  return found;
}

async function responses() {
  const ask = client().responses;
  const tools = [{ type: "function", name: "weather", parameters: PARAMETERS, strict: true }];
  const text = { format: { type: "json_schema", name: "answer", schema: ANSWER, strict: true } };
  const found = {};
  found.plain = (await ask.create({ model: "tutor", input: QUESTION })).output_text;
  const whole = await ask.stream({ model: "tutor", input: QUESTION }).finalResponse();
  found.streamed = whole.output_text;
  found.tokens = whole.usage.total_tokens;
  const answer = await ask.create({ model: "tutor", input: QUESTION, tools });
  found.tool = call(answer.output[0]);
  found.streamed_tool = call((await ask.stream({ model: "tutor", input: QUESTION, tools }).finalResponse()).output[0]);
  const result = { type: "function_call_output", call_id: answer.output[0].call_id, output: "sunny" };
  const said = [{ role: "user", content: QUESTION }, ...answer.output, result];
  found.after_tool = (await ask.create({ model: "tutor", input: said, tools })).output_text;
  found.json = JSON.parse((await ask.create({ model: "tutor", input: QUESTION, text })).output_text);
  found.errors = await errors(({ key = KEY, model = "tutor" }) =>
    client(key).responses.create({ model, input: QUESTION }),
  );
  for await (const event of await ask.create({ model: "tutor", input: HALFWAY, stream: true })) {
    if (event.type !== "response.output_text.delta") continue;
    found.aborted_after = event.delta;
    break;
  }
  return found;
}

tell({ chat: await chat(), responses: await responses() });
