"""OpenTelemetry's own Python exporters and the real agent: the way in for vLLM and whatever else is instrumented already."""

from __future__ import annotations

import time

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from test_agent import BINARY, running_agent, server_view

# As vLLM 0.11 names them, in seconds.
TIMES = {"e2e": 2.0, "time_in_queue": 0.1, "time_in_model_prefill": 0.3, "time_in_model_decode": 1.6}


@pytest.mark.skipif(not BINARY, reason="PERFWATCH_BIN names no agent: test.sh builds one")
def test_vllms_spans_come_through_pythons_grpc_over_the_unix_socket(tmp_path):
    with running_agent(tmp_path):
        # vLLM hands its `--otlp-traces-endpoint` on as it is; insecure is OTEL_EXPORTER_OTLP_TRACES_INSECURE=true.
        exporter = OTLPSpanExporter(endpoint=f"unix://{tmp_path}/otlp.sock", insecure=True)
        provider = TracerProvider(resource=Resource.create({"service.name": "llama"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("vllm.llm_engine")
        deadline = time.monotonic() + 60
        view = None
        while not view or not view["latency"]:
            assert time.monotonic() < deadline, view
            now = time.time_ns()
            span = tracer.start_span("llm_request", kind=SpanKind.SERVER, start_time=now - 2_000_000_000)
            for name, seconds in TIMES.items():
                span.set_attribute(f"gen_ai.latency.{name}", seconds)
            span.end(end_time=now)
            time.sleep(0.1)
            view = server_view(tmp_path / "api.sock", "llama")
        provider.shutdown()
    assert view["kind"] == "vllm"
    ledger = {entry["stage"]: entry["ns"] for entry in view["ledger"]["entries"]}
    whole = view["ledger"]["interval_ns"]
    assert {stage: round(ns / whole, 3) for stage, ns in ledger.items()} == {"queue": 0.05, "prefill": 0.15, "decode": 0.8}
