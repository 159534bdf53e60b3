"""What OpenAI's API says, as far as a gateway must understand it: requests, answers, streams, errors.

Doors: `chat` (a request), `answers` and `streams` (what comes back), `endpoints` (the paths), `errors`, `contract`,
`openapi`.
"""
