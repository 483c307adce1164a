#!/usr/bin/env bash
# Builds everything that is needed, then runs the demo: the same prompts through stock ONNX Runtime and through ours.
#   scripts/demo.sh [argument of `ortbi demo`...]      scripts/demo.sh --help-demo lists them
#   Environment: CUDA=AUTO|ON|OFF and JOBS, as in scripts/build-native.sh.
source "$(dirname "$0")/lib.sh"
help_asked "$@"

require dotnet cmake c++ ninja-or-make
scripts/pack-genai.sh
scripts/build-native.sh
step "Building ortbi"
dotnet build src/OrtBatchInvariant.Cli -c Release --verbosity quiet
if [ "${1:-}" = --help-demo ]; then set -- --help; fi
exec dotnet run --project src/OrtBatchInvariant.Cli -c Release --no-build -- demo "$@"
