"""What OpenAI's API says, as far as a gateway must understand it: requests, answers, streams, errors.

Doors: `chat` (a request), `answers` and `streams` (what comes back), `endpoints` (the paths), `errors`, `contract`,
`policies` and `forced` (what a route sets for its users), `response_policy` and `response_answers` (the same and what
comes back at /v1/responses), `bodies`, `openapi`.
"""
