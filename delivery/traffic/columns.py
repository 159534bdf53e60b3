"""The columns of the traffic log, which the gateway writes and a replay reads. `TRAFFIC_LOG.md` is the same for people.

One row is one attempt to answer a request, or (event `feedback`) what a user said about an answer afterwards.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "time", "number", "whole", "flag"]
CONTRACT = "contract_"  # a flag for each detector of the response contract: contract_format, ...


@dataclass(frozen=True)
class Column:
    """`needed`: a log without it cannot be replayed. All others may be missing or null."""

    name: str
    kind: Kind
    meaning: str
    needed: bool = False


COLUMNS = (
    Column("event", "text", "`attempt` (the default) or `feedback`"),
    Column("request_id", "text", "of the user's request; all its attempts and feedback share it", needed=True),
    Column("route", "text", "the model name that the client asked for"),
    Column("epoch", "text", "the route's epoch when the request started"),
    Column("variant", "text", "who answered, or should have", needed=True),
    Column("arm", "text", "what the variant was then: `stable`, `candidate`, `holdback` or `experiment`"),
    Column(
        "role",
        "text",
        "`served` (the default), `failover` (stable in another's place), `mirror` (nobody saw it) or `tester`",
    ),
    Column("bundle", "text", "digest of the variant's bundle"),
    Column("user", "text", "keyed hash of the user's key; empty: nobody known"),
    Column("started_at", "time", "when the attempt began", needed=True),
    Column("ended_at", "time", "when it ended; of feedback: when it was given", needed=True),
    Column("status", "whole", "HTTP status of the model's server; 0: there was none", needed=True),
    Column("ok", "flag", "whether the variant did its part; by default: status 200 to 299 and no error"),
    Column("error", "text", "why not: `connect`, `status`, `first_byte_timeout`, `midstream`...; also `client_closed`"),
    Column("ttft_s", "number", "seconds to the first content, of a plain answer to all of it; null: none came"),
    Column("prompt_tokens", "whole", "as the model's server counted them"),
    Column("completion_tokens", "whole", "as the model's server counted them"),
    Column("streamed", "flag", "whether the answer was streamed"),
    Column("user_ok", "flag", "false where the user got no complete answer in the end, once a request; default true"),
    Column("rating", "whole", "-1, 0 or 1; null: none was given"),
    Column("escalated", "flag", "whether the user asked for a person"),
    Column("prompt", "text", "the client's messages as JSON, redacted; null unless switched on"),
    Column("answer", "text", "the first choice's text, redacted; null unless switched on"),
    Column("comment", "text", "of feedback, redacted; null unless switched on"),
)
