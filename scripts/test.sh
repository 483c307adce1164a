#!/usr/bin/env bash
# Builds everything that is needed and runs all tests: GoogleTest through CTest, then xunit through `dotnet test`.
# The last line is `N passed, N failed, N skipped` over both. Exit status 0 only if something ran and nothing failed.
#   scripts/test.sh [--native | --dotnet]      one half only
#   Environment: CUDA=AUTO|ON|OFF and JOBS, as in scripts/build-native.sh; CONFIGURATION (Release).
source "$(dirname "$0")/lib.sh"
help_asked "$@"

native=yes; managed=yes
case ${1:-} in '') ;; --native) managed=no ;; --dotnet) native=no ;; *) die "unknown argument '$1', see --help" ;; esac

passed=0; failed=0; skipped=0
add() { passed=$((passed + $1)); failed=$((failed + $2)); skipped=$((skipped + $3)); }
finish() {
  printf '\n%d passed, %d failed, %d skipped\n' $passed $failed $skipped
  [ $failed -eq 0 ] && [ $passed -gt 0 ]
}
# A build that does not finish counts as one failure, so that the last line never reads like success.
build() { step "$1"; shift; "$@" || { add 0 1 0; finish || true; exit 1; }; }

require dotnet cmake c++ ninja-or-make googletest
results=build/test-results
rm -rf $results; mkdir -p $results

build "GenAI package" scripts/pack-genai.sh
build "Native library and tests" scripts/build-native.sh --tests
if [ $managed = yes ]; then
  build "Projects" dotnet build OrtBatchInvariant.sln -c "${CONFIGURATION:-Release}" --verbosity quiet
fi

if [ $native = yes ]; then
  step "GoogleTest"
  status=0
  ctest --test-dir build/native --verbose --parallel "$jobs" --timeout 600 > $results/native.log 2>&1 || status=$?
  read -r p f s <<<"$(awk -f scripts/count-tests.awk $results/native.log)"
  if [ $status -ne 0 ] || [ "$f" -ne 0 ]; then
    grep -E -A 6 ': Failure|\*\*\*(Failed|Exception|Timeout|Not Run)' $results/native.log | head -n 120 >&2 || true
    [ "$f" -ne 0 ] || f=1
  fi
  echo "GoogleTest: $p passed, $f failed, $s skipped (log: $results/native.log)"
  add "$p" "$f" "$s"
fi

if [ $managed = yes ]; then
  step "xunit"
  status=0
  dotnet test OrtBatchInvariant.sln -c "${CONFIGURATION:-Release}" --no-build --logger trx --results-directory $results || status=$?
  before=$failed
  for trx in $results/*.trx; do
    [ -f "$trx" ] || continue
    # <Counters total="5" executed="5" passed="5" failed="0" ...>: what neither passed nor failed was skipped.
    read -r total p f <<<"$(sed -n 's/.*<Counters total="\([0-9]*\)" .*passed="\([0-9]*\)" failed="\([0-9]*\)".*/\1 \2 \3/p' "$trx")"
    add "$p" "$f" $((total - p - f))
  done
  # A test host that crashes leaves no count of what it did not run.
  if [ $status -ne 0 ] && [ $failed -eq "$before" ]; then add 0 1 0; fi
fi

finish
