#!/usr/bin/env bash
# Installs the real backends that tests/backends talk to, each at a pinned version, into one folder:
#
#   tests/peers/install.sh [DIR]        # DIR: $PERFWATCH_TEST_PEERS, else target/peers of this checkout
#
#   DIR/bin/prometheus, promtool   Go modules
#   DIR/bin/otelcol                Go modules, put together by the Collector's own builder (collector.builder.yaml)
#   DIR/bin/victoria-metrics       Debian package, unpacked and not installed: needs no root
#
# What is there at the pinned version already is left alone, so a second call takes no time. A peer that cannot be had
# (no Go, a registry that does not answer) is a line `skipped: …` and no failure: its tests are skipped then, and say so.
# The first call takes some ten minutes on two cores, nearly all of it Go compiling.
set -uo pipefail

PROMETHEUS=v0.316.0 # the module's number of Prometheus 3.16
COLLECTOR=v0.165.0
# Debian's releases move on; the first of these that one of SUITES has is taken.
VICTORIA_METRICS="1.145.0+ds1-2 1.112.0+ds1-2"
SUITES="sid trixie"

HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${1:-${PERFWATCH_TEST_PEERS:-$HERE/../../target/peers}}
mkdir -p "$DIR/bin" "$DIR/versions" || exit 1
DIR=$(cd "$DIR" && pwd)
LOG=$DIR/install.log
: >"$LOG"

skipped() { echo "skipped: $1: $2"; }
# has NAME VERSION: the binary is there, and it is the pinned one.
has() { [ -x "$DIR/bin/$1" ] && [ "$(cat "$DIR/versions/$1" 2>/dev/null)" = "$2" ]; }
ready() { echo "$2" >"$DIR/versions/$1" && echo "ready: $1 $2"; }
# quietly LIMIT COMMAND…: with its output in the log.
quietly() {
  local limit=$1 && shift
  echo "+ $*" >>"$LOG"
  timeout "$limit" "$@" >>"$LOG" 2>&1 </dev/null
}
why() { grep -v '^+ ' "$LOG" | grep . | tail -n 1; }

export GOBIN=$DIR/bin GOFLAGS="-buildvcs=false -trimpath" CGO_ENABLED=0

# from_go MODULE FOLDER VERSION COMMAND…: `go install` of the commands that are missing; FOLDER holds theirs in the module.
from_go() {
  local module=$1 folder=$2 version=$3 missing=() name && shift 3
  for name in "$@"; do
    if has "$name" "$version"; then echo "ready: $name $version"; else missing+=("$name"); fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v go >/dev/null; then
    for name in "${missing[@]}"; do skipped "$name" "no \`go\` on this machine"; done
    return 1
  fi
  # One small question first: a proxy that does not answer costs a minute and not ten.
  if ! quietly 60 go mod download "$module@$version"; then
    for name in "${missing[@]}"; do skipped "$name" "the registry of Go modules does not answer: $(why)"; done
    return 1
  fi
  for name in "${missing[@]}"; do
    if quietly 1800 go install -ldflags='-s -w' "$folder/$name@$version" && [ -x "$DIR/bin/$name" ]; then
      ready "$name" "$version"
    else
      skipped "$name" "it does not build: $(why)" && return 1
    fi
  done
}

collector() {
  local source=$DIR/otelcol-source
  mkdir -p "$source"
  sed "s|OUTPUT|$source|" "$HERE/collector.builder.yaml" >"$source/builder.yaml"
  if quietly 1800 "$DIR/bin/builder" --config "$source/builder.yaml" && cp "$source/otelcol" "$DIR/bin/otelcol"; then
    rm -rf "$source"
    ready otelcol "$COLLECTOR"
  else
    skipped otelcol "it does not build: $(why)"
  fi
}

# The mirror is the one that this machine's own apt uses; its state is left as it is.
victoria_metrics() {
  local version name=victoria-metrics apt=$DIR/apt mirror suite
  for version in $VICTORIA_METRICS; do
    has $name "$version" && echo "ready: $name $version" && return
  done
  command -v apt-get >/dev/null || { skipped $name "no \`apt-get\` on this machine"; return; }
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 2>/dev/null | awk '$1 == "Debian" { print $2; exit }')
  [ -n "$mirror" ] || mirror=$(grep -rhoE 'https?://[^ ]+/debian/?$' /etc/apt/sources.list.d /etc/apt/sources.list 2>/dev/null |
    grep -v snapshot | head -n 1)
  [ -n "$mirror" ] || { skipped $name "this machine's apt knows no Debian mirror"; return; }
  mkdir -p "$apt/lists" "$apt/cache"
  for suite in $SUITES; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done >"$apt/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20
    -o APT::Sandbox::User=)
  quietly 300 apt-get "${options[@]}" update
  for version in $VICTORIA_METRICS; do
    (cd "$apt" && quietly 300 apt-get "${options[@]}" download "$name=$version") || continue
    quietly 60 dpkg-deb -x "$apt"/${name}_*.deb "$apt/unpacked" || continue
    cp "$apt/unpacked/usr/bin/$name" "$DIR/bin/$name" && "$DIR/bin/$name" -version >>"$LOG" 2>&1 || continue
    rm -rf "$apt"
    ready $name "$version"
    return
  done
  skipped $name "Debian's packages do not answer, or have none of $VICTORIA_METRICS: $(why)"
  rm -rf "$apt"
}

victoria_metrics
from_go github.com/prometheus/prometheus github.com/prometheus/prometheus/cmd "$PROMETHEUS" prometheus promtool
if has otelcol "$COLLECTOR"; then
  echo "ready: otelcol $COLLECTOR"
elif from_go go.opentelemetry.io/collector/cmd/builder go.opentelemetry.io/collector/cmd "$COLLECTOR" builder; then
  collector
else
  skipped otelcol "there is no builder for it"
fi
exit 0
