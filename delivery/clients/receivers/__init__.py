"""Who takes messages: webhooks (generic JSON, Slack, Teams) and mail servers, each asked once per call.

Doors: `webhook`, `mail`, `errors`; `shapes` says how a message looks to each of them.
"""
