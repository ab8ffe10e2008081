"""What the SDK ended, told on standard output: a JSON object a line, in the form that told.rs reads."""
import json

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class Told(SpanExporter):
    """An exporter to stand beside the real one."""

    def export(self, spans):
        for span in spans:
            print(json.dumps(told(span)), flush=True)
        return SpanExportResult.SUCCESS


def told(span):
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "trace_state": span.context.trace_state.to_header(),
        "name": span.name,
        "kind": span.kind.name,
        "start": str(span.start_time),
        "end": str(span.end_time),
        "status": span.status.status_code.name,
        "message": span.status.description or "",
        "attributes": dict(span.attributes),
        "events": [
            {"name": event.name, "time": str(event.timestamp), "attributes": dict(event.attributes)} for event in span.events
        ],
        "links": [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": dict(link.attributes),
            }
            for link in span.links
        ],
        "resource": dict(span.resource.attributes),
        "scope": f"{span.instrumentation_scope.name} {span.instrumentation_scope.version}",
    }
