import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.stream.Collectors;

/** An exporter to stand beside the real one: a JSON object a line, in the form that told.rs reads. */
class Told implements SpanExporter {
  private final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  @Override
  public CompletableResultCode export(Collection<SpanData> spans) {
    spans.forEach(span -> out.println(told(span)));
    return CompletableResultCode.ofSuccess();
  }

  @Override
  public CompletableResultCode flush() {
    return CompletableResultCode.ofSuccess();
  }

  @Override
  public CompletableResultCode shutdown() {
    return CompletableResultCode.ofSuccess();
  }

  private static String told(SpanData span) {
    var state = span.getSpanContext().getTraceState().asMap().entrySet().stream()
        .map(entry -> entry.getKey() + "=" + entry.getValue()).collect(Collectors.joining(","));
    var events = span.getEvents().stream().map(event -> object(
        "name", text(event.getName()), "time", text(event.getEpochNanos()), "attributes", plain(event.getAttributes())));
    var links = span.getLinks().stream().map(link -> object(
        "trace_id", text(link.getSpanContext().getTraceId()), "span_id", text(link.getSpanContext().getSpanId()),
        "attributes", plain(link.getAttributes())));
    var scope = span.getInstrumentationScopeInfo();
    return object(
        "trace_id", text(span.getTraceId()),
        "span_id", text(span.getSpanId()),
        "parent_id", text(span.getParentSpanContext().isValid() ? span.getParentSpanId() : ""),
        "trace_state", text(state),
        "name", text(span.getName()),
        "kind", text(span.getKind()),
        "start", text(span.getStartEpochNanos()),
        "end", text(span.getEndEpochNanos()),
        "status", text(span.getStatus().getStatusCode()),
        "message", text(span.getStatus().getDescription()),
        "attributes", plain(span.getAttributes()),
        "events", events.collect(Collectors.joining(",", "[", "]")),
        "links", links.collect(Collectors.joining(",", "[", "]")),
        "resource", plain(span.getResource().getAttributes()),
        "scope", text(scope.getName() + " " + scope.getVersion()));
  }

  private static String plain(Attributes attributes) {
    return attributes.asMap().entrySet().stream()
        .map(entry -> text(entry.getKey().getKey()) + ":" + value(entry.getValue()))
        .collect(Collectors.joining(",", "{", "}"));
  }

  private static String value(Object value) {
    if (value instanceof List) {
      return ((List<?>) value).stream().map(Told::value).collect(Collectors.joining(",", "[", "]"));
    }
    return value instanceof String ? text(value) : value.toString();
  }

  private static String text(Object value) {
    return '"' + value.toString().replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
  }

  /** Of names and values by turns; the values are JSON already. */
  private static String object(String... pairs) {
    var out = new StringBuilder("{");
    for (int at = 0; at < pairs.length; at += 2) {
      out.append(at == 0 ? "" : ",").append(text(pairs[at])).append(':').append(pairs[at + 1]);
    }
    return out.append('}').toString();
  }
}
