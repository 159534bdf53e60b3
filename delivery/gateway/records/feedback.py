"""`POST /v1/feedback`: what a user says about an answer afterwards, tied to the attempt that gave it.

Of each request one rating and one escalation count. As many answers as the gateway remembers records can be rated.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from pydantic import Field, ValidationError

from configs.strict import Strict
from delivery.gateway.admission import Places
from delivery.gateway.bodies import Bodies
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.keys.access import Keys
from delivery.gateway.log_ins import LogIns
from delivery.gateway.openai.errors import JSON_HEADERS, ApiError
from delivery.gateway.records.attempts import Attempts
from delivery.gateway.records.metrics import Metrics
from delivery.traffic.records import Rating

PATH = "/v1/feedback"
BODY_TIMEOUT_S = 10.0


class Opinion(Strict):
    """The body of the request."""

    request_id: str = Field(min_length=1, max_length=64, description="the header x-request-id of the answer")
    rating: Rating | None = Field(None, description="-1: bad, 0: neither, 1: good")
    escalated: bool = Field(False, description="the user asked for a person instead")
    comment: str | None = Field(None, max_length=4000, description="kept in the traffic log only")


FoundAnswer = dict[str, Any]
Elsewhere = Callable[[Opinion, str | None], Awaitable[FoundAnswer | None]]  # None: nobody else knows the request


class FeedbackDesk:
    """Takes opinions. `attempts` remembers who answered, and whom.

    `elsewhere` takes those about other processes' answers, or raises ApiError.
    """

    def __init__(
        self,
        attempts: Attempts,
        metrics: Metrics,
        keys: Keys,
        places: Places,
        bodies: Bodies,
        log_ins: LogIns,
        elsewhere: Elsewhere | None = None,
    ):
        self._attempts = attempts
        self._metrics = metrics
        self._keys = keys
        self._places = places
        self._bodies = bodies
        self._log_ins = log_ins
        self._elsewhere = elsewhere

    async def handle(self, http: Request) -> Response:
        """Answers, or says in OpenAI's shape why not."""
        try:
            client = self._keys.identify(http.headers)
            raw = await self._bodies.read(http)
            who = http.peer if client is None else client.name
            self._places.take(who)
            try:
                body = await self._told(_opinion(raw), client.name if client is not None else None)
            finally:
                self._places.give_back(who)
        except ApiError as refusal:
            self._metrics.refuse(refusal)
            if refusal.status == 401:
                await self._log_ins.failed(http.peer)
            return refusal.response()
        return Response(200, orjson.dumps(body), JSON_HEADERS)

    async def _told(self, opinion: Opinion, client: str | None) -> FoundAnswer:
        if self._elsewhere is not None and self._attempts.answer_of(opinion.request_id) is None:
            answer = await self._elsewhere(opinion, client)
            if answer is not None:
                return answer
        return self.take(opinion, client)

    def take(self, opinion: Opinion, client: str | None) -> FoundAnswer:
        """Ties the opinion to this process' answer. `client`: the API key's name. Raises ApiError."""
        about = self._attempts.answer_of(opinion.request_id)
        if about is None or (client is not None and about.client != client):
            what = f"No answer with the request id `{opinion.request_id}` is remembered here."
            raise ApiError(404, what, code="unknown_request", param="request_id")
        if opinion.rating is not None and about.rating not in (None, opinion.rating):
            what = f"This answer was rated {about.rating} already; the first rating counts."
            raise ApiError(409, what, code="rated_already", param="rating")
        rating = opinion.rating if about.rating is None else None
        escalated = opinion.escalated and not about.escalated
        if rating is not None or escalated:
            self._attempts.tell(about, rating=rating, escalated=escalated, comment=opinion.comment)
        return {
            "object": "feedback",
            "request_id": about.request_id,
            "rating": about.rating,
            "escalated": about.escalated,
        }


def _opinion(raw: bytes) -> Opinion:
    try:
        opinion = Opinion.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        what = f"`{param}`: {first['msg']}." if param else f"The body is no feedback: {first['msg']}."
        raise ApiError(400, what, code="invalid_value", param=param) from None
    if opinion.rating is None and not opinion.escalated:
        raise ApiError(400, "Nothing is said: `rating` or `escalated` is needed.", code="invalid_value", param="rating")
    return opinion
