#!/usr/bin/env bash
# Builds the native library and installs it to artifacts/native/<rid>/, from where the .NET projects take it.
#   scripts/build-native.sh [--tests] [CMake argument...]
#     --tests      builds the GoogleTest programs as well (run them with `ctest --test-dir build/native`)
#   Environment: CUDA=AUTO|ON|OFF (AUTO: on where a CUDA compiler is found), CUDACXX, CUDA_ARCHITECTURES, CXX, JOBS,
#                ORT_INCLUDE_DIR (the headers of ONNX Runtime; by default those of its NuGet package).
source "$(dirname "$0")/lib.sh"
help_asked "$@"

preset=release
if [ "${1:-}" = --tests ]; then preset=tests; shift; fi
cuda=${CUDA:-AUTO}
case $cuda in AUTO|ON|OFF) ;; *) die "CUDA is '$cuda': use AUTO, ON or OFF" ;; esac

require cmake c++ ninja-or-make
[ $preset = release ] || require googletest
generator=(); if command -v ninja >/dev/null; then generator=(-G Ninja); fi
rid=$(rid)
library=$(library_name)

if [ -z "${ORT_INCLUDE_DIR:-}" ]; then
  require dotnet
  mkdir -p "$feed"
  step "Locating the ONNX Runtime headers"
  project=scripts/packages/OnnxRuntime.csproj
  dotnet restore "$project" --verbosity quiet || die "NuGet could not restore Microsoft.ML.OnnxRuntime, see above"
  ort=$(dotnet msbuild "$project" -getProperty:PkgMicrosoft_ML_OnnxRuntime)
  ORT_INCLUDE_DIR=$ort/build/native/include
  ORT_LIB_DIR=$ort/runtimes/$rid/native
fi
[ -f "$ORT_INCLUDE_DIR/onnxruntime_c_api.h" ] || die "onnxruntime_c_api.h is not in '$ORT_INCLUDE_DIR': set ORT_INCLUDE_DIR to the headers of ONNX Runtime"

step "Building $library for $rid (preset $preset, CUDA $cuda, $jobs jobs)"
arguments=(-DORT_BATCH_INVARIANT_CUDA="$cuda" -DORT_INCLUDE_DIR="$ORT_INCLUDE_DIR")
if [ -n "${ORT_LIB_DIR:-}" ]; then arguments+=(-DORT_LIB_DIR="$ORT_LIB_DIR"); fi
if [ -n "${CUDA_ARCHITECTURES:-}" ]; then arguments+=(-DCMAKE_CUDA_ARCHITECTURES="$CUDA_ARCHITECTURES"); fi
cmake --preset $preset -B build/native "${generator[@]}" "${arguments[@]}" "$@"
cmake --build build/native --parallel "$jobs"

# Renamed into place: a process that has the old library mapped keeps its own file.
built=$(find build/native -name "$library" -type f -not -path '*/CMakeFiles/*' | head -n 1)
[ -n "$built" ] || die "the build made no $library under build/native"
mkdir -p "artifacts/native/$rid"
cp "$built" "artifacts/native/$rid/.$library.new"
mv "artifacts/native/$rid/.$library.new" "artifacts/native/$rid/$library"
echo "artifacts/native/$rid/$library"
