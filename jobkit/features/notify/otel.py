"""OpenTelemetry traces: for every ended job a span from submit to end, with a child span for each attempt.

A job that was submitted inside a span is a child of that span.

The export is configured by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...). Attribute names follow
its conventions for messaging if there is one.
"""

from __future__ import annotations

from typing import Any

from jobkit.model import JobEvent, JobkitError, JobSnapshot, JobState, attempts_of


class Telemetry:
    """A sink that exports spans by OpenTelemetry. Raises JobkitError: the OpenTelemetry packages are not installed."""

    name = "OpenTelemetry"

    def __init__(self, namespace: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise JobkitError(
                f"JOBKIT_OTEL needs OpenTelemetry: pip install 'panel-jobkit[otel]' ({error.name} is missing)"
            ) from None
        self._trace: Any = trace
        self._propagator = TraceContextTextMapPropagator()
        self._namespace = namespace
        self._provider = TracerProvider(resource=Resource.create({"service.name": "jobkit"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("jobkit")

    def wants(self, event: JobEvent, snapshot: JobSnapshot) -> bool:
        return event.type.is_end

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        spec, begin, end = snapshot.spec, snapshot.submitted_at, snapshot.finished_at
        if begin is None or end is None:
            return
        trace = self._trace
        attributes: dict[str, Any] = {
            "messaging.system": "jobkit",
            "messaging.destination.name": spec.queue,
            "messaging.message.id": spec.id,
            "jobkit.task": spec.task,
            "jobkit.namespace": self._namespace,
            "jobkit.state": str(snapshot.state),
            "jobkit.owner": spec.owner,
            "jobkit.tags": list(spec.tags),
            "jobkit.attempts": snapshot.attempt,
        }
        span = self._tracer.start_span(
            f"job {spec.task}",
            context=self._propagator.extract({"traceparent": spec.traceparent}),  # of no span if it is ""
            kind=trace.SpanKind.CONSUMER,
            start_time=_ns(begin),
            attributes=attributes,
        )
        within = trace.set_span_in_context(span)
        for attempt in attempts_of(snapshot.history):
            inner = self._tracer.start_span(
                f"run {spec.task}",
                context=within,
                start_time=_ns(attempt.started_at),
                attributes={
                    "jobkit.attempt": attempt.number,
                    "jobkit.worker": attempt.worker,
                    "jobkit.outcome": attempt.outcome,
                    **{f"jobkit.{name}": value for name, value in attempt.usage.items() if name != "exit"},
                },
            )
            if attempt.reason:
                inner.set_status(trace.StatusCode.ERROR, attempt.reason)
            inner.end(_ns(attempt.ended_at or end))
        if snapshot.state is JobState.FAILED:
            error = snapshot.error
            span.set_status(trace.StatusCode.ERROR, str(error) if error else "")
            if error is not None:
                span.set_attribute("error.type", error.type)
                span.add_event(
                    "exception",
                    {
                        "exception.type": error.type,
                        "exception.message": error.message,
                        "exception.stacktrace": error.traceback,
                    },
                    _ns(end),
                )
        span.end(_ns(end))

    def close(self) -> None:
        """Flush spans; waits at most about 5 seconds."""
        self._provider.force_flush(5_000)
        self._provider.shutdown()


def _ns(at: Any) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
