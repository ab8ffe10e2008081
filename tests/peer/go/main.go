// Sends 12 traces of 5 spans through the Go SDK, and tells on standard output what it sent.
//
// usage: sender, with OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_*, the protocol grpc or http/protobuf.
package main

import (
	"context"
	"crypto/rand"
	"log"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	exporter, err := exporter(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithSpanProcessor(teller{}))
	tracer := provider.Tracer("sender", trace.WithInstrumentationVersion("1.2.3"))
	for range 12 {
		send(tracer)
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
}

func exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func send(tracer trace.Tracer) {
	ctx, checkout := tracer.Start(somebody(), "checkout", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("text", "Grüße, \"日本\" 🧵\n"),
		attribute.String("empty", ""),
		attribute.Int64("large", 9007199254740991),
		attribute.Int64("negative", -42),
		attribute.Float64("fraction", 0.1),
		attribute.Bool("flag", true),
		attribute.StringSlice("texts", []string{"one", "two"}),
		attribute.Int64Slice("numbers", []int64{1, -2}),
		attribute.Float64Slice("fractions", []float64{0.5, 1.5e-9}),
		attribute.BoolSlice("flags", []bool{true, false}),
	))
	within, reserve := tracer.Start(ctx, "reserve stock")
	reserve.AddEvent("waiting", trace.WithAttributes(attribute.Int("for.ms", 7)))
	reserve.AddEvent("done")
	get := trace.WithAttributes(attribute.String("http.request.method", "GET"))
	called, call := tracer.Start(within, "GET", trace.WithSpanKind(trace.SpanKindClient), get)
	_, stock := tracer.Start(called, "GET /stock", trace.WithSpanKind(trace.SpanKindServer))
	stock.End()
	call.SetStatus(codes.Ok, "")
	call.End()
	reserve.End()
	link := trace.Link{
		SpanContext: reserve.SpanContext(),
		Attributes:  []attribute.KeyValue{attribute.String("why", "reserved")},
	}
	_, publish := tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(link))
	publish.End()
	checkout.SetStatus(codes.Error, "the card was refused")
	checkout.End()
}

// A caller elsewhere, with a trace state.
func somebody() context.Context {
	caller := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, Remote: true}
	rand.Read(caller.TraceID[:])
	rand.Read(caller.SpanID[:])
	state, err := trace.ParseTraceState("vendor=opaque,other=1")
	if err != nil {
		log.Fatal(err)
	}
	caller.TraceState = state
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(caller))
}
