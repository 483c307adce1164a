#!/usr/bin/env bash
# Measures the CPU kernels against stock ONNX Runtime, in one run and by turns, op by op and end to end, and keeps the record.
# Run it on an idle machine; it takes some minutes.
#   scripts/bench-cpu.sh NAME [argument of `ortbi bench`...]      writes tests/benchmarks/results/NAME/cpu.json, and
#                                                                 cpu-qwen3-0.6b.json: a model of that shape with random int4 weights
source "$(dirname "$0")/lib.sh"
help_asked "$@"

name=${1:?usage: scripts/bench-cpu.sh NAME, the folder of the record, for example zen3}
shift
require dotnet cmake c++ ninja-or-make
scripts/pack-genai.sh
CUDA=${CUDA:-OFF} scripts/build-native.sh
step "Building ortbi"
dotnet build src/OrtBatchInvariant.Cli -c Release --verbosity quiet
mkdir -p "tests/benchmarks/results/$name"
ortbi() { dotnet run --project src/OrtBatchInvariant.Cli -c Release --no-build -- "$@"; }
ortbi bench --large --json "tests/benchmarks/results/$name/cpu.json" "$@"
model=build/bench/qwen3-0.6b
[ -d $model ] || ortbi export --random --like qwen3-0.6b --precision int4 $model
ortbi bench --no-ops $model --json "tests/benchmarks/results/$name/cpu-qwen3-0.6b.json"
