"""The front service of the two-service chain: Flask, answering by asking the back service.

usage: opentelemetry-instrument python front.py PORT BACK_URL
Prints `listening 127.0.0.1:PORT` once it does; PORT 0 takes a free one. Ends on SIGTERM.
GET /orders/<id> answers `<trace id> <what the back said>`. It also tells on standard output what it sends.
"""
import signal
import sys

import requests
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from told import Told
from werkzeug.serving import make_server

port, back = int(sys.argv[1]), sys.argv[2].rstrip("/")
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(Told()))
app = Flask("front")
tracer = trace.get_tracer("front")


@app.get("/orders/<order>")
def orders(order):
    with tracer.start_as_current_span("reserve stock") as span:
        answer = requests.get(f"{back}/stock/{order}", timeout=30)
        return f"{span.get_span_context().trace_id:032x} {answer.text}\n", answer.status_code


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # exit handlers flush the last spans
server = make_server("127.0.0.1", port, app, threaded=True)
print(f"listening 127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
