// What every client is asked to do, in words that all of them share.

export const URL = process.env.GATEWAY_URL + "/v1";
export const KEY = process.env.GATEWAY_KEY;
export const USED_UP = process.env.GATEWAY_USED_UP_KEY;
export const WRONG = "sk-nobody-knows-this-one";
export const QUESTION = "What is 2 + 2?";
export const HALFWAY = "Stop halfway.";
export const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const ANSWER = {
  type: "object",
  properties: { answer: { type: "integer" } },
  required: ["answer"],
  additionalProperties: false,
};

// The HTTP status and the wait that an error told its client; `read` gets both out of that client's error.
export async function statusOf(ask, read) {
  try {
    await ask();
  } catch (error) {
    return read(error);
  }
  return { status: 200, retry_after: null };
}

// Prints what was found, for the test that started this.
export function tell(found) {
  process.stdout.write(JSON.stringify(found));
}
