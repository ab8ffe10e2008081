import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Sends 12 traces of 5 spans through the Java SDK, and tells on standard output what it sent.
 *
 * <p>usage: java -cp .:lib/* Sender, with OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_*, the protocol http/protobuf or grpc.
 */
public class Sender {
  public static void main(String[] args) {
    var sdk = AutoConfiguredOpenTelemetrySdk.builder()
        .addTracerProviderCustomizer((provider, config) ->
            provider.addSpanProcessor(SimpleSpanProcessor.create(new Told())))
        .disableShutdownHook()
        .build()
        .getOpenTelemetrySdk();
    var tracer = sdk.getTracer("sender", "1.2.3");
    for (int sent = 0; sent < 12; sent++) {
      send(tracer);
    }
    sdk.shutdown().join(30, TimeUnit.SECONDS);
  }

  private static void send(Tracer tracer) {
    var checkout = tracer.spanBuilder("checkout").setParent(somebody()).setSpanKind(SpanKind.SERVER)
        .setAttribute("text", "Grüße, \"日本\" 🧵\n")
        .setAttribute("empty", "")
        .setAttribute("large", 9007199254740991L)
        .setAttribute("negative", -42)
        .setAttribute("fraction", 0.1)
        .setAttribute("flag", true)
        .setAttribute(AttributeKey.stringArrayKey("texts"), List.of("one", "two"))
        .setAttribute(AttributeKey.longArrayKey("numbers"), List.of(1L, -2L))
        .setAttribute(AttributeKey.doubleArrayKey("fractions"), List.of(0.5, 1.5e-9))
        .setAttribute(AttributeKey.booleanArrayKey("flags"), List.of(true, false))
        .startSpan();
    var within = Context.root().with(checkout);
    var reserve = tracer.spanBuilder("reserve stock").setParent(within).startSpan();
    reserve.addEvent("waiting", Attributes.of(AttributeKey.longKey("for.ms"), 7L));
    reserve.addEvent("done");
    var call = tracer.spanBuilder("GET").setParent(within.with(reserve)).setSpanKind(SpanKind.CLIENT)
        .setAttribute("http.request.method", "GET").startSpan();
    tracer.spanBuilder("GET /stock").setParent(within.with(call)).setSpanKind(SpanKind.SERVER).startSpan().end();
    call.setStatus(StatusCode.OK);
    call.end();
    reserve.end();
    var why = Attributes.of(AttributeKey.stringKey("why"), "reserved");
    tracer.spanBuilder("publish").setParent(within).setSpanKind(SpanKind.PRODUCER)
        .addLink(reserve.getSpanContext(), why).startSpan().end();
    checkout.setStatus(StatusCode.ERROR, "the card was refused");
    checkout.end();
  }

  /** A caller elsewhere, with a trace state. */
  private static Context somebody() {
    var random = ThreadLocalRandom.current();
    var state = TraceState.builder().put("other", "1").put("vendor", "opaque").build();
    var caller = SpanContext.createFromRemoteParent(
        String.format("%016x%016x", random.nextLong() | 1, random.nextLong()),
        String.format("%016x", random.nextLong() | 1),
        TraceFlags.getSampled(), state);
    return Context.root().with(Span.wrap(caller));
  }
}
