"""The columns of the traffic log, which the gateway writes and a replay reads. docs/traffic-log.md tells people.

One row is one attempt to answer a request, or (event `feedback`) what a user said about an answer afterwards. What a
record holds is a column under the same name (delivery.traffic.records); here are those that only the log has.
"""

from delivery.traffic.records import Column, Feedback, Record, columns_of

CONTRACT = "contract_"  # a flag for each detector of the response contract: contract_format, ...

OF_RECORD = columns_of(Record)
OF_FEEDBACK = columns_of(Feedback)
COLUMNS = (
    Column("text", "`attempt` (the default) or `feedback`", name="event"),
    *OF_RECORD,
    Column("time", "when it ended; of feedback: when it was given", needed=True, name="ended_at"),
    Column("text", "what the variant was then: `stable`, `candidate`, `holdback` or `experiment`", name="arm"),
    Column("text", "digest of the variant's bundle", name="bundle"),
    *(column for column in OF_FEEDBACK if column not in OF_RECORD),
    Column("text", "the client's messages as JSON, redacted; null unless switched on", name="prompt"),
    Column("text", "the first choice's text, redacted; null unless switched on", name="answer"),
    Column("text", "of feedback, redacted; null unless switched on", name="comment"),
)
