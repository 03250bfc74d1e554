#!/usr/bin/env python3
"""Sends what vLLM sends, with OpenTelemetry's own SDK for Python: ``otlp_sender.py grpc|http ENDPOINT``.

vLLM hands ``--otlp-traces-endpoint`` to this exporter and makes one span per request, whose times are in attributes. Three
requests, the last of which fails; beside them the metrics that its HTTP server would export. Needs
``opentelemetry-sdk`` and ``opentelemetry-exporter-otlp``. Ends with 3 where these are not installed, with 1 when the
receiver refused something.
"""

import logging
import sys
import time

try:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    print(f"no OpenTelemetry SDK for Python: {error}", file=sys.stderr)
    sys.exit(3)

SECOND = 1_000_000_000


class Troubles(logging.Handler):
    """The exporters only log what goes wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def main() -> int:
    way, endpoint = sys.argv[1:]
    troubles = Troubles()
    logging.getLogger().addHandler(troubles)
    if way == "grpc":
        spans, metrics = GrpcSpans(endpoint, insecure=True), GrpcMetrics(endpoint, insecure=True)
    else:
        spans, metrics = HttpSpans(f"{endpoint}/v1/traces"), HttpMetrics(f"{endpoint}/v1/metrics")
    resource = Resource.create({"service.name": "vllm", "service.instance.id": way})

    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    tracer = tracers.get_tracer("vllm.llm_engine")
    start = time.time_ns() - 10 * SECOND
    for failed in (False, False, True):
        span = tracer.start_span("llm_request", kind=SpanKind.SERVER, start_time=start)
        for name, seconds in (
            ("time_to_first_token", 0.35),
            ("e2e", 1.0),
            ("time_in_queue", 0.1),
            ("time_in_model_prefill", 0.25),
            ("time_in_model_decode", 0.6),
            ("time_in_model_inference", 0.85),
        ):
            span.set_attribute(f"gen_ai.latency.{name}", seconds)
        span.set_attribute("gen_ai.usage.prompt_tokens", 512)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(start + SECOND)
    sent = tracers.force_flush()
    tracers.shutdown()

    meters = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)], resource)
    meter = meters.get_meter("http")
    meter.create_up_down_counter("http.server.active_requests", "{request}").add(2)
    waits = meter.create_histogram("app.wait", "ms")
    for _ in range(5):
        waits.record(3)
    sent = meters.force_flush() and sent
    meters.shutdown()
    for trouble in troubles.said:
        print(trouble, file=sys.stderr)
    return 0 if sent and not troubles.said else 1


if __name__ == "__main__":
    sys.exit(main())
