#!/usr/bin/env bash
# Builds or installs the real programs that the peer tests talk to, each into its own folder of a cache.
#
#   parts.sh PART...            build what is missing or outdated
#   parts.sh --check PART...    build nothing; exit 3 when a part is missing or outdated
#
# Parts: jaeger otelcol telemetrygen python java node go. README.md says what each is for and what it needs.
# The cache is TRACESTITCH_PEER_CACHE, else tracestitch-peers in XDG_CACHE_HOME or ~/.cache.
# Packages come through go, pip, mvn and npm as this machine has them configured.
set -euo pipefail

jaeger_module=v1.76.0          # the last valid module version; it holds cmd/jaeger, which is Jaeger v2
collector=v0.155.0             # OCB and every component in otelcol/builder.yaml
javaagent=2.33.1
dependency_plugin=3.8.1        # maven-dependency-plugin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TRACESTITCH_PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tracestitch-peers}

say() { printf 'parts.sh: %s\n' "$*"; }
fail() {
  printf 'parts.sh: %s\n' "$*" >&2
  exit 1
}
need() { # need PROGRAM WHY
  command -v "$1" >/dev/null || fail "$2 needs $1 on the PATH"
}

# What a part is made from, as one line: equal stamps mean nothing to do. Whoever changes how a part is built, but none of
# its inputs, removes its folder.
stamp() {
  case $1 in
    jaeger) echo "jaeger $jaeger_module" ;;
    otelcol) echo "otelcol $collector $(digest otelcol/builder.yaml)" ;;
    telemetrygen) echo "telemetrygen $collector" ;;
    python) echo "python $(digest python/requirements.txt) $(python3 -V 2>/dev/null)" ;; # a venv fits one Python
    java) echo "java $javaagent $(digest java/pom.xml java/Back.java java/Sender.java java/Told.java)" ;;
    node) echo "node $(digest node/package-lock.json) $(node --version 2>/dev/null)" ;;
    go) echo "go $(digest go/go.mod go/go.sum go/main.go go/told.go)" ;;
    *) return 1 ;;
  esac
}
digest() { (cd "$here" && cat "$@") | sha256sum | cut -c1-16; }

# Jaeger's own go.mod has a replace directive, so `go install` refuses it; a module around it repeats that directive.
build_jaeger() {
  need go jaeger
  cat >go.mod <<X
module tracestitch.test/jaeger

go 1.26

require github.com/jaegertracing/jaeger $jaeger_module

replace github.com/Shopify/sarama => github.com/Shopify/sarama v1.33.0
X
  local source
  go mod download "github.com/jaegertracing/jaeger@$jaeger_module" || fail "cannot download Jaeger $jaeger_module"
  source=$(go list -m -f '{{.Dir}}' "github.com/jaegertracing/jaeger@$jaeger_module")
  cp "$source/go.sum" go.sum
  chmod u+w go.sum
  go get -tool "github.com/jaegertracing/jaeger/cmd/jaeger@$jaeger_module"
  CGO_ENABLED=0 go build -buildvcs=false -ldflags '-s -w' -o jaeger github.com/jaegertracing/jaeger/cmd/jaeger
  ./jaeger version >/dev/null 2>&1 || fail "the built jaeger does not run"
}

build_otelcol() {
  need go otelcol
  GOBIN=$PWD go install "go.opentelemetry.io/collector/cmd/builder@$collector"
  cp "$here/otelcol/builder.yaml" builder.yaml
  CGO_ENABLED=0 ./builder --config builder.yaml
  mv build/otelcol otelcol
  rm -rf build builder
  ./otelcol components >/dev/null || fail "the built otelcol does not run"
}

build_telemetrygen() {
  need go telemetrygen
  GOBIN=$PWD CGO_ENABLED=0 go install -ldflags '-s -w' \
    "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@$collector"
  ./telemetrygen traces --help >/dev/null || fail "the built telemetrygen does not run"
}

build_python() {
  need python3 python
  python3 -m venv venv || fail "python3 cannot make a venv (on Debian: apt-get install python3-venv)"
  venv/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement "$here/python/requirements.txt"
  venv/bin/pip check
  venv/bin/opentelemetry-instrument --version >/dev/null || fail "opentelemetry-instrument does not run"
}

build_java() {
  need mvn java
  need javac java
  mvn --quiet --batch-mode -Dstyle.color=never "org.apache.maven.plugins:maven-dependency-plugin:$dependency_plugin:copy" \
    "-Dartifact=io.opentelemetry.javaagent:opentelemetry-javaagent:$javaagent" \
    "-DoutputDirectory=$PWD" -Dmdep.stripVersion=true
  [ -s opentelemetry-javaagent.jar ] || fail "mvn gave no opentelemetry-javaagent.jar"
  mvn --quiet --batch-mode -Dstyle.color=never --file "$here/java/pom.xml" \
    "org.apache.maven.plugins:maven-dependency-plugin:$dependency_plugin:copy-dependencies" \
    "-DoutputDirectory=$PWD/lib" -DincludeScope=runtime
  javac --release 11 -encoding UTF-8 -cp 'lib/*' -d . "$here"/java/*.java
}

build_node() {
  need npm node
  cp "$here/node/package.json" "$here/node/package-lock.json" .
  npm ci --ignore-scripts --no-audit --no-fund
}

build_go() {
  need go go
  CGO_ENABLED=0 go build -C "$here/go" -buildvcs=false -trimpath -o "$PWD/sender" .
}

is_current() { [ "$(cat "$cache/$1/stamp" 2>/dev/null)" = "$(stamp "$1")" ]; }

build() { # in a subshell: it changes the directory and stops at the first error
  (
    set -e
    part=$1 made_from=$(stamp "$1")
    mkdir -p "$cache"
    exec 9>"$cache/$part.lock"
    flock 9 # another run may be building the same part
    if is_current "$part"; then
      say "$part: already there"
      exit 0
    fi
    say "$part: building $made_from in $cache/$part"
    rm -rf "${cache:?}/$part"
    mkdir "$cache/$part"
    cd "$cache/$part"
    started=$SECONDS
    trap 'say "$part: not built; the reason stands above" >&2' EXIT
    "build_$part"
    trap - EXIT
    echo "$made_from" >stamp # last: a folder without it is not finished
    say "$part: done in $((SECONDS - started)) s"
  )
}

check_only=
if [ "${1:-}" = --check ]; then
  check_only=yes
  shift
fi
[ $# -gt 0 ] || fail "usage: parts.sh [--check] PART...   (jaeger otelcol telemetrygen python java node go)"
for part in "$@"; do
  stamp "$part" >/dev/null 2>&1 || fail "unknown part '$part' (known: jaeger otelcol telemetrygen python java node go)"
done
for part in "$@"; do
  if [ -n "$check_only" ]; then
    is_current "$part" || { say "$part: missing or outdated"; exit 3; }
  else
    build "$part"
  fi
done
