#!/usr/bin/env python3
"""What do added network spans do to call counts and service graphs? Measured with the real parts.

usage: spanmetrics.py [--minus FILE] COMMAND [ARG...]

Starts Jaeger and, before it, a Collector with the span metrics connector; runs COMMAND, which must send its spans to
$OTLP_GRPC or $OTLP_HTTP (http://127.0.0.1:port); waits until nothing changes any more; prints as JSON what a user of
each would see; ends both. With --minus, prints only what differs from a result printed before.

    calls      calls_total of the connector, by "service KIND"
    millis     the summed durations behind it, by "service KIND"
    names      how many span names each "service KIND" has (each is a set of time series)
    graph      Jaeger's /api/dependencies, by "parent > child"
    services   what Jaeger's service list shows
    warnings   spans in which Jaeger shows a warning, by the warning's text without its numbers
"""
import argparse
import collections
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(
    os.environ.get("TRACESTITCH_PEER_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tracestitch-peers"
)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def wait_for_ports(process, ports, log):
    for port in ports:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{process.args[0]} ended at once:\n{pathlib.Path(log.name).read_text()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            sys.exit(f"{process.args[0]} does not listen on {port}")


def from_prometheus(text):
    calls, millis, names = collections.Counter(), collections.Counter(), collections.defaultdict(set)
    for line in text.splitlines():
        metric = re.match(r"traces_span_metrics_(calls_total|duration_milliseconds_sum)\{(.*)\} (\S+)$", line)
        if not metric:
            continue
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', metric[2]))
        who = f'{labels["service_name"]} {labels["span_kind"].removeprefix("SPAN_KIND_")}'
        if metric[1] == "calls_total":
            calls[who] += int(float(metric[3]))
            names[who].add(labels["span_name"])
        else:
            millis[who] += float(metric[3])
    return {
        "calls": dict(calls),
        "millis": {who: round(value, 3) for who, value in millis.items()},
        "names": {who: len(set_) for who, set_ in names.items()},
    }


def from_jaeger(base):
    years = 20 * 365 * 24 * 3600 * 1000  # recorded traces may be old
    now = int(time.time() * 1000) + 3600_000
    edges = json.loads(get(f"{base}/api/dependencies?endTs={now}&lookback={years}"))["data"] or []
    services = json.loads(get(f"{base}/api/services"))["data"] or []
    return {
        "graph": {f'{edge["parent"]} > {edge["child"]}': edge["callCount"] for edge in edges},
        "services": {service: 1 for service in services},
    }


def warnings(base, services):
    """Once, at the end: each reading adds its warnings to the spans Jaeger has in memory."""
    spans = {}
    for service in services:
        query = urllib.parse.urlencode(
            {"service": service, "limit": 100000, "start": 0, "end": int((time.time() + 3600) * 1e6)}
        )
        for trace in json.loads(get(f"{base}/api/traces?{query}"))["data"] or []:
            for span in trace["spans"]:
                texts = {re.sub(r"[-\d.]+(µs|ms|s)|=[0-9a-f]{16}", "…", text) for text in span["warnings"] or []}
                spans.setdefault((span["traceID"], span["spanID"]), texts)
    return dict(collections.Counter(text for texts in spans.values() for text in texts))


def read(prometheus, jaeger):
    return {**from_prometheus(get(f"{prometheus}/metrics")), **from_jaeger(jaeger)}


def settled(prometheus, jaeger):
    last, since = None, time.monotonic()
    for _ in range(120):
        now = read(prometheus, jaeger)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 4:
            return now
        time.sleep(0.5)
    sys.exit("the numbers still change after a minute")


def difference(now, before):
    result = {}
    for table, values in now.items():
        old = before.get(table, {})
        changed = {key: round(values.get(key, 0) - old.get(key, 0), 3) for key in {**values, **old}}
        result[table] = {key: change for key, change in sorted(changed.items()) if change}
    return result


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("--minus")
    options.add_argument("command", nargs=argparse.REMAINDER)
    options = options.parse_args()
    if not options.command:
        sys.exit(__doc__)
    before = json.loads(pathlib.Path(options.minus).read_text()) if options.minus else None

    query, jaeger_grpc, jaeger_http, otlp_grpc, otlp_http, metrics = free_ports(6)
    environment = {
        **os.environ,
        "JAEGER_QUERY_PORT": str(query),
        "JAEGER_OTLP_GRPC_PORT": str(jaeger_grpc),
        "JAEGER_OTLP_HTTP_PORT": str(jaeger_http),
        "OTELCOL_OTLP_GRPC_PORT": str(otlp_grpc),
        "OTELCOL_OTLP_HTTP_PORT": str(otlp_http),
        "OTELCOL_PROMETHEUS_PORT": str(metrics),
        "OTELCOL_NEXT": f"http://127.0.0.1:{jaeger_grpc}",
    }
    parts = [
        ([CACHE / "jaeger/jaeger", "--config", HERE / "jaeger/jaeger.yaml"], [query, jaeger_grpc, jaeger_http]),
        ([CACHE / "otelcol/otelcol", "--config", HERE / "otelcol/spanmetrics.yaml"], [otlp_grpc, otlp_http, metrics]),
    ]
    running = []
    with tempfile.NamedTemporaryFile(prefix="spanmetrics", suffix=".log") as log:
        try:
            for command, ports in parts:
                running.append(subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log))
                wait_for_ports(running[-1], ports, log)
            subprocess.run(
                options.command,
                check=True,
                stdout=sys.stderr,
                env={
                    **os.environ,
                    "OTLP_GRPC": f"http://127.0.0.1:{otlp_grpc}",
                    "OTLP_HTTP": f"http://127.0.0.1:{otlp_http}",
                },
            )
            prometheus, jaeger = f"http://127.0.0.1:{metrics}", f"http://127.0.0.1:{query}"
            result = settled(prometheus, jaeger)
            result["warnings"] = warnings(jaeger, result["services"])
        finally:
            for process in reversed(running):
                process.terminate()
            for process in running:
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
    print(json.dumps(difference(result, before) if before else result, indent=1, sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
