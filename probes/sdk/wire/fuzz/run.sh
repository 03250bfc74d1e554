#!/usr/bin/env bash
# Fuzzes the decoder for a minute, or as many seconds as said, beginning with the published messages.
#
#   probes/sdk/wire/fuzz/run.sh [seconds]
#
# Needs a nightly toolchain and cargo-fuzz (`cargo install --locked cargo-fuzz`). A finding ends it with a failure and lies
# in fuzz/artifacts; the corpus in fuzz/corpus stays for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p fuzz/corpus/decode
while read -r name hex; do
    printf '%b' "$(sed 's/../\\x&/g' <<< "$hex")" > "fuzz/corpus/decode/$name"
done < vectors.txt
# Five times the longest published message, so that a flush and more fits; the limit of 1 MiB has tests of its own.
exec cargo +nightly fuzz run decode -- -max_len=4096 -max_total_time="${1:-60}" -print_final_stats=1
