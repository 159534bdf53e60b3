"""One user's request: who answers it, who takes over, and what the user sees when nobody can."""

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial

from delivery.gateway.admission import Places, overloaded
from delivery.gateway.bodies import Bodies
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.http.server import Handler
from delivery.gateway.ids import Ids
from delivery.gateway.keys.access import Client, Keys
from delivery.gateway.keys.tokens import is_limited, prompt_tokens, tokens_at_most, tokens_taken
from delivery.gateway.log_ins import LogIns
from delivery.gateway.openai.answers import UpstreamError
from delivery.gateway.openai.call import Call, named_tester, parse, user_key
from delivery.gateway.openai.endpoints.endpoint import Endpoint
from delivery.gateway.openai.errors import ApiError, server_error, unknown_route
from delivery.gateway.openai.forced import are_deciding
from delivery.gateway.openai.policies import check_policy
from delivery.gateway.records.attempts import EMPTY, EXHAUSTED, Attempt, Attempts
from delivery.gateway.records.metrics import Metrics
from delivery.gateway.sending import Sender, about
from delivery.gateway.table.served import Tables
from delivery.gateway.upstream.ask import Upstreams
from delivery.gateway.upstream.mirror import Mirror
from delivery.traffic.assignment import assign, mirrored_to, pseudonym
from delivery.traffic.breaker import Breaker
from delivery.traffic.records import TRIPPED, AttemptRole

log = logging.getLogger("slipway.gateway")
TIMED_OUT = frozenset(("first_byte_timeout", "idle_timeout"))


@dataclass
class Proxy:
    """`POST` on the paths that reach a model."""

    tables: Tables
    attempts: Attempts
    breaker: Breaker
    upstreams: Upstreams
    mirror: Mirror
    metrics: Metrics
    keys: Keys
    places: Places
    bodies: Bodies
    log_ins: LogIns
    sender: Sender
    trusts_names: bool = True
    ids: Ids = field(default_factory=Ids)

    def at(self, endpoint: Endpoint) -> Handler:
        """The handler of this endpoint."""
        return partial(self._handle, endpoint)

    async def _handle(self, endpoint: Endpoint, http: Request) -> Response | None:
        """Answers, or says in OpenAI's shape why not."""
        request_id = self.ids.next()
        client, call, held, who = None, None, 0, ""
        try:
            known = self.keys.identify(http.headers)
            raw = await self.bodies.read(http)
            asking = http.peer if known is None else known.name
            self.places.take(asking)
            who = asking
            if known:
                if (wait := self.keys.begin(known)) is not None:
                    await wait
                client = known
            call = self._admit(request_id, http, raw, endpoint, client)
            del raw
            if client is not None and client.tokens:
                most = self._at_most(call)
                holding = self.keys.hold(client, most, most if is_limited(call) else prompt_tokens(call))
                held = holding if isinstance(holding, int) else await holding
            return await self._answer(http, call)
        except ApiError as refusal:
            return await self._refused(endpoint, http, refusal, request_id)
        finally:
            if who:
                self.places.give_back(who)
            if client is not None:
                self.keys.end(client, held, call.taken if call is not None else 0)

    async def _refused(self, endpoint: Endpoint, http: Request, refusal: ApiError, request_id: str) -> Response | None:
        self.metrics.refuse(refusal)
        if refusal.status == 401:
            await self.log_ins.failed(http.peer)
        if http.sending is None:
            return refusal.response(request_id)
        http.sending.write(endpoint.stream.error(refusal.body))  # the status has been sent
        http.sending.end()
        return None

    def _admit(self, request_id: str, http: Request, raw: bytes, endpoint: Endpoint, client: Client | None) -> Call:
        body = parse(raw, endpoint)
        name = body["model"]
        route = self.tables.routes.get(name)
        if route is None or (client is not None and not client.may_ask(name)):
            raise unknown_route(name, routes_for(client, self.tables))
        check_policy(route.policy, endpoint, body)
        asking = client.name if client is not None else ""
        key = user_key(route.policy, http.headers, body, asking)
        return Call(
            request_id=request_id,
            name=name,
            route=route,
            body=body,
            user_key=key or request_id,
            user=pseudonym(route.salt, key) if key else "",
            stream=body.get("stream") is True,
            wants_usage=(body.get("stream_options") or {}).get("include_usage") is True,
            endpoint=endpoint,
            client=asking,
            size=len(raw),
            vouched=client is not None or self.trusts_names,
            decides=are_deciding(body),
            chosen=route.testers.get(named_tester(route.policy, http.headers, body, asking)) if route.testers else None,
        )

    def _at_most(self, call: Call) -> int:
        return tokens_at_most(call, self.upstreams.replicas.context_of(call.route.variants[call.route.stable]))

    async def _answer(self, http: Request, call: Call) -> Response | None:
        route, leased = call.route, self.tables.lease_valid()
        tested = call.chosen if leased else None
        chosen = tested or assign(route, call.user_key, leased)
        role: AttemptRole = "tester" if tested else "served"
        if chosen == route.stable:
            if candidate := mirrored_to(route, call.request_id, leased):
                self.mirror.offer(call, candidate)
        elif role == "served" and self.breaker.is_tripped(call.name, route, chosen):
            self._pass_over(call, chosen)
            role = "failover"
        else:
            attempt = self.attempts.begin(call, chosen, role)
            try:
                return await self._serve(http, call, attempt)
            except UpstreamError as failure:
                self.metrics.failed_over(attempt)
                log.warning("stable takes over", extra=about(attempt, failure))
            role = "failover"
            if attempt.error == EMPTY:
                return await self._second_opinion(http, call, attempt)
        return await self._serve_by_stable(http, call, role)

    async def _second_opinion(self, http: Request, call: Call, silent: Attempt) -> Response | None:
        """Stable is asked where the candidate had nothing to say; both go on record together.

        Whether it was the request that left nothing to say is known only then.
        """
        try:
            return await self._serve_by_stable(http, call, "failover")
        finally:
            self.attempts.file(silent)

    async def _serve_by_stable(self, http: Request, call: Call, role: AttemptRole) -> Response | None:
        attempt = self.attempts.begin(call, call.route.stable, role)
        try:
            return await self._serve(http, call, attempt, is_last=True)
        except UpstreamError as failure:
            log.error("a user got no answer", extra=about(attempt, failure))
            if failure.status == 429:
                raise server_error(429, "The model has too many requests.", "overloaded", 1.0) from None
            if failure.kind == EXHAUSTED:
                raise overloaded() from None
            if failure.kind in TIMED_OUT:
                raise server_error(504, "The model did not answer in time.", failure.kind) from None
            raise server_error(502, "The model could not be reached, or failed.", failure.kind) from None

    def _pass_over(self, call: Call, variant: str) -> None:
        """A tripped variant is not asked, which goes on record as its failure; from time to time a copy asks it."""
        attempt = self.attempts.begin(call, variant, "served")
        attempt.fail(TRIPPED)
        self.attempts.end(attempt)
        self.metrics.failed_over(attempt)
        if self.breaker.probe_due(call.name, variant, self.attempts.monotonic()):
            self.mirror.offer(call, variant)

    async def _serve(self, http: Request, call: Call, attempt: Attempt, *, is_last: bool = False) -> Response | None:
        """One attempt, from here on in the records. Raises UpstreamError as long as another one may follow."""
        try:
            if call.stream:
                await self.sender.streamed(http, call, attempt)
                return None
            shown = await self.upstreams.ask(call, call.route.variants[attempt.variant], attempt)
            return self.sender.plain(call, attempt, shown)
        except UpstreamError as failure:
            attempt.fail(failure.kind)
            if is_last and failure.answer:  # the model had nothing to say: that is an answer, if a poor one
                return self.sender.poor(http, call, attempt, failure.answer)
            attempt.user_ok = not is_last
            raise
        except ApiError:
            attempt.error = "declined"
            raise
        except asyncio.CancelledError:
            attempt.error = "client_closed"
            raise
        except Exception as error:  # the gateway's own failure, and no variant's
            attempt.error = "internal_error"
            attempt.user_ok = not is_last and http.sending is None
            if not attempt.user_ok:
                raise
            log.exception("an attempt broke the gateway's own code", extra={"request_id": call.request_id})
            raise UpstreamError(attempt.error, attempt.status, cause=repr(error)) from error
        finally:
            call.taken += tokens_taken(attempt)
            if attempt.error == EMPTY and not is_last:
                self.attempts.stop(attempt)
            else:
                self.attempts.end(attempt)


def routes_for(client: Client | None, tables: Tables) -> list[str]:
    """The names of the routes that this client may ask."""
    return sorted(name for name in tables.routes if client is None or client.may_ask(name))
