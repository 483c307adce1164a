#!/usr/bin/env bash
# Makes one archive that checks and measures everything on a GPU machine without a network: unpack it there and run gpu-check.sh.
#   scripts/gpu-bundle.sh OUT.tar.xz [option...]
#     --prebuilt BUILD  take the library and the GPU test programs from this CMake build folder; otherwise they are built on the GPU
#                       machine, from the sources in the archive, for its own GPU
#     --stock FOLDER    also make OUT-stock.tar.xz, to be unpacked into the same folder: ONNX Runtime with its own CUDA provider as the
#                       peer. FOLDER holds native/ (libonnxruntime.so, libonnxruntime_providers_{shared,cuda}.so) and managed/ (the
#                       C# sources of that version's binding)
#   The sources are those of the last commit.
source "$(dirname "$0")/lib.sh"
help_asked "$@"

out=${1:?usage: scripts/gpu-bundle.sh OUT.tar.xz [option...], see --help}; shift
prebuilt=; stock=
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) prebuilt=${2:?--prebuilt needs a folder}; shift ;;
    --stock) stock=${2:?--stock needs a folder}; shift ;;
    *) die "unknown argument '$1', see --help" ;;
  esac
  shift
done
case $out in *.tar.xz) ;; *) die "the archive is called '$out': its name must end in .tar.xz" ;; esac
require dotnet tar xz git
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "gpu-bundle.sh: there are changes that are not committed; the archive holds the last commit" >&2

limit=$((60 * 1000 * 1000))
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
top=$work/gpu-check; mkdir -p "$top"
# pack FOLDER ARCHIVE: written beside its place, then renamed.
pack() {
  tar -C "$work" --owner=0 --group=0 --sort=name -c "$1" | xz -T0 -6 > "$2.partial"
  local bytes; bytes=$(stat -c %s "$2.partial")
  [ "$bytes" -le $limit ] || { rm "$2.partial"; die "$2 would have $bytes bytes, more than $limit"; }
  mv "$2.partial" "$2"
  echo "$2: $bytes bytes"
}
# publish PROJECT FOLDER ARGUMENT...: a program, trimmed and with its runtime. Debugging aids of the runtime and libraries of other systems stay out.
publish() {
  local project=$1 to=$2 build; shift 2
  # Of its own, since the two forms of the program do not share intermediate files.
  build=build/gpu-bundle/$(basename "$to")
  dotnet publish "$project" -c Release -r linux-x64 --self-contained --artifacts-path "$build" -p:SkipNativeAssets=true -p:DebugType=none -p:SatelliteResourceLanguages=en \
    -o "$to" --verbosity quiet "$@"
  rm -rf "$to"/runtimes "$to"/models "$to"/*.pdb "$to"/*.xml "$to"/*.dll.lib "$to"/onnxruntime*.dll "$to"/libmscordbi.so "$to"/libmscordaccore.so "$to"/libclrgc*.so "$to"/libcoreclrtraceptprovider.so "$to"/createdump
}

step "Program"
mkdir -p "$feed"
publish tests/OrtBatchInvariant.Gpu "$top/program"
publish src/OrtBatchInvariant.Cli "$top/cli" -p:PublishTrimmed=true -p:TrimMode=partial -p:SuppressTrimAnalysisWarnings=true -p:InvariantGlobalization=true \
  -p:JsonSerializerIsReflectionEnabledByDefault=true
# What both programs hold goes into the archive once.
(cd "$top/cli" && find . -type f) | while read -r file; do
  if cmp -s "$top/cli/$file" "$top/program/$file"; then ln -f "$top/program/$file" "$top/cli/$file"; fi
done
step "Sources and models"
git rev-parse --short HEAD > "$top/COMMIT"
mkdir "$top/source"
git archive HEAD CMakeLists.txt CMakePresets.json LICENSE native tests/native | tar x -C "$top/source"
mkdir -p "$top/models"
git archive HEAD models/demo | tar x -C "$top"
mkdir "$top/examples"; git show HEAD:examples/python/first_logits.py > "$top/examples/first_logits.py"
cp scripts/gpu-check.sh "$top/"
dotnet restore scripts/packages/OnnxRuntime.csproj --verbosity quiet
mkdir -p "$top/onnxruntime"
cp -r "$(dotnet msbuild scripts/packages/OnnxRuntime.csproj -getProperty:PkgMicrosoft_ML_OnnxRuntime)/build/native/include" "$top/onnxruntime/include"
if [ -n "$prebuilt" ]; then
  library=$(find "$prebuilt" -name libort_batch_invariant.so -type f | head -n 1)
  [ -n "$library" ] || die "there is no libort_batch_invariant.so under '$prebuilt'"
  readelf -SW "$library" | grep -q nv_fatbin || die "'$library' was built without CUDA"
  mkdir "$top/library"
  cp "$library" "$top/library/"
  find "$prebuilt" -name 'cuda_*_test' -type f -perm -u+x -exec cp {} "$top/library/" \;
  strip "$top/library/"*
else
  [ -d /usr/src/googletest ] || die "the GPU tests need GoogleTest's sources in /usr/src/googletest (Debian: apt-get install googletest)"
  cp -r /usr/src/googletest "$top/googletest"
fi
pack gpu-check "$out"

if [ -n "$stock" ]; then
  for file in native/libonnxruntime.so native/libonnxruntime_providers_shared.so native/libonnxruntime_providers_cuda.so managed/OrtEnv.shared.cs; do
    [ -f "$stock/$file" ] || die "'$stock' has no $file"
  done
  step "Program for the stock peer"
  rm -rf "$top"; mkdir -p "$top"
  publish tests/OrtBatchInvariant.Gpu "$top/program-stock" -p:OrtBindingSources="$(cd "$stock" && pwd)/managed"
  cp "$stock"/native/*.so "$top/program-stock/"
  pack gpu-check "${out%.tar.xz}-stock.tar.xz"
fi
