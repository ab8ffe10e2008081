#!/usr/bin/env python3
"""Orders through front, back and a server nobody instruments, by way of tracestitch, to $OTLP_GRPC.

usage: chain.py ORDERS NETWORK_SPANS SYSTEM_KIND    as in the configuration's `weaving`
       chain.py ORDERS off                          completion off: what the SDKs sent

A COMMAND for spanmetrics.py. The program is $TRACESTITCH, else the one cargo built for debugging; DeepFlow is the
simulated one. Ends when tracestitch has handed on everything.
"""
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # nothing beside the sources
from spanmetrics import CACHE, HERE, get  # noqa: E402

TRACESTITCH = os.environ.get("TRACESTITCH") or HERE.parent.parent / "target/debug/tracestitch"
SPANS_OF_AN_ORDER = 5
CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
buffer: {{idle: 3s}}
completion: {{deepflow: {{enabled: {enabled}, endpoint: '{deepflow}', reask: [1s]}}}}
weaving: {{network_spans: {network_spans}, system_kind: {system_kind}}}
exporters: {{otlp/next: {{endpoint: '{next}'}}}}
admin: {{endpoint: '127.0.0.1:0'}}
"""


class Leaf(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"7 in stock")

    def log_message(self, *_):
        pass


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    orders, network_spans = int(sys.argv[1]), sys.argv[2]
    enabled, system_kind = len(sys.argv) == 4, (sys.argv[3:] or ["span"])[0]
    leaf = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leaf)
    threading.Thread(target=leaf.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder, running = pathlib.Path(folder), []
        try:
            deepflow = start(running, folder, "deepflow", [TRACESTITCH, "demo", "deepflow", "--listen", "127.0.0.1:0"])
            deepflow = wait(deepflow, r"(http://\S+)")[0]
            settings = {"enabled": str(enabled).lower(), "deepflow": deepflow, "next": os.environ["OTLP_GRPC"]}
            settings |= {"network_spans": network_spans, "system_kind": system_kind}
            (folder / "config.yaml").write_text(CONFIG.format(**settings))
            log = start(running, folder, "tracestitch", [TRACESTITCH, "run", "--config", folder / "config.yaml"])
            wait(log, r"(is ready)")
            admin, grpc, http_ = wait(log, r"address=(\S+)")[:3]
            java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", CACHE / "java"]
            java += [f"-javaagent:{CACHE}/java/opentelemetry-javaagent.jar", "Back", "0"]
            leaf_url = f"http://127.0.0.1:{leaf.server_port}/"
            back = start(running, folder, "back", [*java, leaf_url], "http/protobuf", f"http://{http_}")
            back = wait(back, r"listening (\S+)")[0]
            python = [CACHE / "python/venv/bin/opentelemetry-instrument", CACHE / "python/venv/bin/python"]
            python += [HERE / "python/front.py", "0", f"http://{back}"]
            front = start(running, folder, "front", python, "grpc", f"http://{grpc}")
            front = wait(front, r"listening (\S+)")[0]
            for order in range(orders):
                get(f"http://{front}/orders/{order}")
            until_delivered(admin, orders * SPANS_OF_AN_ORDER)
        finally:
            for process in reversed(running):
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(20)


def start(running, folder, name, command, protocol="", otlp=""):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {
        "OTEL_SERVICE_NAME": name,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_INSTRUMENTATION_COMMON_DEFAULT_ENABLED": "false",
        "OTEL_INSTRUMENTATION_JAVA_HTTP_SERVER_ENABLED": "true",
        "OTEL_INSTRUMENTATION_JAVA_HTTP_CLIENT_ENABLED": "true",
    }
    log = folder / name
    with log.open("w") as file:
        running.append(subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file))
    return log


def wait(log, pattern):
    for _ in range(1200):
        if found := re.findall(pattern, log.read_text()):
            return found
        time.sleep(0.05)
    sys.exit(f"{log.name} says:\n{log.read_text()}")


def until_delivered(admin, spans):
    for _ in range(1200):
        books = json.loads(get(f"http://{admin}/ledger"))["destinations"][0]
        if books["delivered"] == spans and books["held"] == 0:
            return
        time.sleep(0.05)
    sys.exit(f"{spans} spans were to be delivered, but: {books}")


if __name__ == "__main__":
    main()
