"""OpenTelemetry traces: a span for every attempt, sent to a collector in the background.

All attempts of one request share a trace, whose id holds the request's id. The model gets it as `traceparent`, with the
sampler's decision about the request: a vLLM with tracing of its own adds its spans to the traces that are kept alone.
Names and attributes follow OpenTelemetry's conventions for generative AI.
"""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from delivery.gateway.records.attempts import Attempt

NS = 1_000_000_000


class Traces:
    """Makes a span of every attempt that ends. Close it, so that the last ones are sent."""

    def __init__(self, exporter: SpanExporter):
        self._provider = TracerProvider(resource=Resource.create({"service.name": "slipway-gateway"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("slipway.gateway")

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        began = int(attempt.started_at * NS)
        span = self._tracer.start_span(
            f"{_operation(attempt)} {attempt.route}",
            context=set_span_in_context(NonRecordingSpan(self._request(attempt.request_id))),
            kind=SpanKind.CLIENT,
            attributes=_attributes(attempt),
            start_time=began,
        )
        if attempt.streamed and attempt.ttft_s is not None:
            span.add_event("first content", timestamp=began + int(attempt.ttft_s * NS))
        if not attempt.ok:
            span.set_status(Status(StatusCode.ERROR, attempt.error))
        span.end(began + int(attempt.duration_s * NS))

    def traceparent(self, request_id: str) -> str:
        """What the model is told of this request's trace, as W3C writes it."""
        request = self._request(request_id)
        return f"00-{request.trace_id:032x}-{request.span_id:016x}-{request.trace_flags:02x}"

    def _request(self, request_id: str) -> SpanContext:
        """The request itself, as the parent of its attempts: sampled or not, which no attempt decides anew."""
        trace_id = int(request_id, 16)
        decision = self._provider.sampler.should_sample(None, trace_id, "request").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision == Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        return SpanContext(trace_id, int(request_id[:16], 16), is_remote=True, trace_flags=flags)

    def close(self) -> None:
        """Sends what is left; waits for it, not for long."""
        self._provider.force_flush(2_000)
        self._provider.shutdown()


def to_collector(endpoint: str) -> Traces:
    """Traces that go to this OTLP/HTTP base URL, e.g. http://127.0.0.1:4318."""
    return Traces(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5))


def _operation(attempt: Attempt) -> str:
    return attempt.call.endpoint.operation if attempt.call is not None else "chat"


def _attributes(attempt: Attempt) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": _operation(attempt),
        "gen_ai.request.model": attempt.route,
        "slipway.request_id": attempt.request_id,
        "slipway.variant": attempt.variant,
        "slipway.role": attempt.role,
        "slipway.epoch": attempt.epoch,
        "http.response.status_code": attempt.status,
    }
    if attempt.prompt_tokens is not None:
        found["gen_ai.usage.input_tokens"] = attempt.prompt_tokens
        found["gen_ai.usage.output_tokens"] = attempt.completion_tokens or 0
    if attempt.error:
        found["error.type"] = attempt.error
    return found
