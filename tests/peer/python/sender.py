"""Sends 12 traces of 5 spans through the Python SDK, and tells on standard output what it sent.

usage: python sender.py, with OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_*, the protocol grpc or http/protobuf.
"""
import os
import random

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import TraceState, set_span_in_context
from told import Told

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
provider.add_span_processor(SimpleSpanProcessor(Told()))
tracer = provider.get_tracer("sender", "1.2.3")


def somebody():
    """A caller elsewhere, with a trace state."""
    state = TraceState([("vendor", "opaque"), ("other", "1")])
    caller = SpanContext(random.getrandbits(128) | 1, random.getrandbits(64) | 1, True, TraceFlags(TraceFlags.SAMPLED), state)
    return set_span_in_context(NonRecordingSpan(caller))


def trace():
    checkout = tracer.start_span(
        "checkout",
        somebody(),
        SpanKind.SERVER,
        {
            "text": 'Grüße, "日本" 🧵\n',
            "empty": "",
            "large": 9007199254740991,
            "negative": -42,
            "fraction": 0.1,
            "flag": True,
            "texts": ["one", "two"],
            "numbers": [1, -2],
            "fractions": [0.5, 1.5e-9],
            "flags": [True, False],
        },
    )
    within = set_span_in_context(checkout)
    reserve = tracer.start_span("reserve stock", within)
    reserve.add_event("waiting", {"for.ms": 7})
    reserve.add_event("done")
    call = tracer.start_span("GET", set_span_in_context(reserve), SpanKind.CLIENT, {"http.request.method": "GET"})
    tracer.start_span("GET /stock", set_span_in_context(call), SpanKind.SERVER).end()
    call.set_status(Status(StatusCode.OK))
    call.end()
    reserve.end()
    link = Link(reserve.get_span_context(), {"why": "reserved"})
    tracer.start_span("publish", within, SpanKind.PRODUCER, links=[link]).end()
    checkout.set_status(Status(StatusCode.ERROR, "the card was refused"))
    checkout.end()


for _ in range(12):
    trace()
provider.shutdown()
