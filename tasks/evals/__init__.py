"""How good a subject is, asked of it as it is served: conversations for behaviour, lm-eval for capability.

Doors: `asked`, `evaluate` (the verb), `of_project` (as a project asks it), `model_server` (the vLLM that a build asks),
`engine` (what that is), `capability` (lm-eval's tasks), `prompt_room` (whether a question fits), `require` (what evals
need before they begin).
"""
