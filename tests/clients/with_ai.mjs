// The `ai` package with its OpenAI provider, over both APIs.

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import { ANSWER, HALFWAY, KEY, PARAMETERS, QUESTION, URL, USED_UP, WRONG, statusOf, tell } from "./scenario.mjs";

const read = (error) => ({ status: error.statusCode, retry_after: error.responseHeaders?.["retry-after"] ?? null });
const call = (calls) => ({ name: calls[0].toolName, arguments: calls[0].input });

async function used(over) {
  const settings = (key = KEY, name = "tutor") => ({
    model: createOpenAI({ baseURL: URL, apiKey: key })[over](name),
    maxRetries: 0,
    providerOptions: { openai: { store: false } }, // else a second step refers to what nobody has stored
  });
  const weather = tool({ inputSchema: jsonSchema(PARAMETERS), execute: async () => "sunny" });
  const asked = { ...settings(), prompt: QUESTION };
  const found = {};
  found.plain = (await generateText(asked)).text;
  const streamed = streamText(asked);
  found.streamed = "";
  for await (const part of streamed.textStream) found.streamed += part;
  found.tokens = (await streamed.usage).totalTokens;
  found.tool = call((await generateText({ ...asked, tools: { weather } })).toolCalls);
  const streamedTool = streamText({ ...asked, tools: { weather } });
  await streamedTool.consumeStream();
  found.streamed_tool = call(await streamedTool.toolCalls);
  found.after_tool = (await generateText({ ...asked, tools: { weather }, stopWhen: stepCountIs(3) })).text;
  found.json = (await generateText({ ...asked, output: Output.object({ schema: jsonSchema(ANSWER) }) })).output;
  const one = ({ key, model }) => generateText({ ...settings(key, model), prompt: QUESTION });
  found.errors = {
    wrong_key: (await statusOf(() => one({ key: WRONG }), read)).status,
    no_model: (await statusOf(() => one({ model: "nothing" }), read)).status,
    used_up: await statusOf(() => one({ key: USED_UP }), read),
  };
  const aborting = new AbortController();
  const halfway = streamText({ ...asked, prompt: HALFWAY, abortSignal: aborting.signal });
  for await (const part of halfway.textStream) {
    found.aborted_after = part;
    aborting.abort();
    break;
  }
  return found;
}

tell({ chat: await used("chat"), responses: await used("responses") });
