#!/usr/bin/env bash
# Opens changed journals for a minute, or as many seconds as said.
#
#   agent/store/fuzz/run.sh [seconds]
#
# Needs a nightly toolchain and cargo-fuzz (`cargo install --locked cargo-fuzz`). A finding ends it with a failure and lies
# in fuzz/artifacts; the corpus in fuzz/corpus stays for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p fuzz/corpus/journal
# Six bytes are one change: enough for a header, a page and a blob that are all wrong.
# Without a sanitizer: there is no unsafe code in it, and it does 93 runs a second instead of one in two.
exec cargo +nightly fuzz run --sanitizer none journal -- -max_len=120 -len_control=0 -max_total_time="${1:-60}" -print_final_stats=1
