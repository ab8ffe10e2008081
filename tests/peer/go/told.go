package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// A processor to stand beside the real one: a JSON object a line, in the form that told.rs reads.
type teller struct{}

func (teller) OnStart(context.Context, sdk.ReadWriteSpan) {}
func (teller) Shutdown(context.Context) error             { return nil }
func (teller) ForceFlush(context.Context) error           { return nil }

func (teller) OnEnd(span sdk.ReadOnlySpan) {
	line, err := json.Marshal(told(span))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

type object = map[string]any

func told(span sdk.ReadOnlySpan) object {
	parent := ""
	if span.Parent().HasSpanID() {
		parent = span.Parent().SpanID().String()
	}
	events, links := []object{}, []object{}
	for _, event := range span.Events() {
		events = append(events, object{
			"name": event.Name, "time": nanoseconds(event.Time), "attributes": plain(event.Attributes),
		})
	}
	for _, link := range span.Links() {
		links = append(links, object{
			"trace_id":   link.SpanContext.TraceID().String(),
			"span_id":    link.SpanContext.SpanID().String(),
			"attributes": plain(link.Attributes),
		})
	}
	scope := span.InstrumentationScope()
	return object{
		"trace_id":    span.SpanContext().TraceID().String(),
		"span_id":     span.SpanContext().SpanID().String(),
		"parent_id":   parent,
		"trace_state": span.SpanContext().TraceState().String(),
		"name":        span.Name(),
		"kind":        strings.ToUpper(span.SpanKind().String()),
		"start":       nanoseconds(span.StartTime()),
		"end":         nanoseconds(span.EndTime()),
		"status":      strings.ToUpper(span.Status().Code.String()),
		"message":     span.Status().Description,
		"attributes":  plain(span.Attributes()),
		"events":      events,
		"links":       links,
		"resource":    plain(span.Resource().Attributes()),
		"scope":       scope.Name + " " + scope.Version,
	}
}

func plain(attributes []attribute.KeyValue) object {
	out := object{}
	for _, one := range attributes {
		out[string(one.Key)] = one.Value.AsInterface()
	}
	return out
}

func nanoseconds(at time.Time) string {
	return strconv.FormatInt(at.UnixNano(), 10)
}
