// Sends 12 traces of 5 spans through the Node SDK, and tells on standard output what it sent.
//
// usage: node sender.js, with OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_*, the protocol http/json, http/protobuf or grpc.
const { randomBytes } = require('node:crypto');
const { SpanKind, SpanStatusCode, TraceFlags, createTraceState, ROOT_CONTEXT, trace } = require('@opentelemetry/api');
const { defaultResource, detectResources, envDetector } = require('@opentelemetry/resources');
const { BatchSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');

const exporters = {
  'http/json': '@opentelemetry/exporter-trace-otlp-http',
  'http/protobuf': '@opentelemetry/exporter-trace-otlp-proto',
  grpc: '@opentelemetry/exporter-trace-otlp-grpc',
};
const { OTLPTraceExporter } = require(exporters[process.env.OTEL_EXPORTER_OTLP_PROTOCOL]);
const { teller } = require('./told');

const provider = new NodeTracerProvider({
  resource: defaultResource().merge(detectResources({ detectors: [envDetector] })),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter()), teller],
});
const tracer = provider.getTracer('sender', '1.2.3');

// A caller elsewhere, with a trace state.
function somebody() {
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    isRemote: true,
    traceFlags: TraceFlags.SAMPLED,
    traceState: createTraceState('vendor=opaque,other=1'),
  });
}

function sendTrace() {
  const attributes = {
    text: 'Grüße, "日本" 🧵\n',
    empty: '',
    large: Number.MAX_SAFE_INTEGER,
    negative: -42,
    fraction: 0.1,
    flag: true,
    texts: ['one', 'two'],
    numbers: [1, -2],
    fractions: [0.5, 1.5e-9],
    flags: [true, false],
  };
  const caller = somebody();
  const checkout = tracer.startSpan('checkout', { kind: SpanKind.SERVER, attributes }, caller);
  const within = trace.setSpan(caller, checkout);
  const reserve = tracer.startSpan('reserve stock', {}, within);
  reserve.addEvent('waiting', { 'for.ms': 7 });
  reserve.addEvent('done');
  const get = { kind: SpanKind.CLIENT, attributes: { 'http.request.method': 'GET' } };
  const call = tracer.startSpan('GET', get, trace.setSpan(within, reserve));
  tracer.startSpan('GET /stock', { kind: SpanKind.SERVER }, trace.setSpan(within, call)).end();
  call.setStatus({ code: SpanStatusCode.OK });
  call.end();
  reserve.end();
  const links = [{ context: reserve.spanContext(), attributes: { why: 'reserved' } }];
  tracer.startSpan('publish', { kind: SpanKind.PRODUCER, links }, within).end();
  checkout.setStatus({ code: SpanStatusCode.ERROR, message: 'the card was refused' });
  checkout.end();
}

for (let sent = 0; sent < 12; sent += 1) {
  sendTrace();
}
provider.shutdown();
