#!/usr/bin/env bash
# Runs all GPU tests and end-to-end checks and writes their results as JSON. Lies in the archive that scripts/gpu-bundle.sh makes and
# runs from the unpacked folder, without a network, on a machine with an NVIDIA driver (CUDA 12 or later).
#   ./gpu-check.sh [option...]
#     --results FOLDER  where results go (results)
#     --quick           few values and small models
#     --only WORDS      of: bad-input alone converted ops completions invariance verify demo tests sanitize bench (all of them, in this order)
#     --limit SECONDS   how long one program may take (240)
#     --bench ARGUMENTS what `ortbi-gpu bench` is given (--dtypes int4 fp16 --rows 1 8 32 128 --prefill 2048 8192 --seconds 150)
#     --device cpu      a rehearsal on a machine without a GPU: the same programs on the CPU, without tests and sanitize
#   Where the archive holds no built library, it is built from the sources with the machine's own nvcc and CMake, for its own GPU.
#   Stock kernels are run as well where the second archive of gpu-bundle.sh was unpacked into the same folder; ONNX Runtime's CUDA
#   provider needs libcublas, libcudart and libcurand of CUDA 13, which are looked for in the usual places.
# Exit status 0 only if everything passed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
results=results; quick=(); limit=240; device=cuda; bench=(--dtypes int4 fp16 --rows 1 8 32 128 --prefill 2048 8192 --seconds 150)
only=(bad-input alone converted ops completions invariance verify demo tests sanitize bench)
while [ $# -gt 0 ]; do
  case $1 in
    --results) results=$2; shift ;;
    --quick) quick=(--quick) ;;
    --only) read -r -a only <<<"$2"; shift ;;
    --limit) limit=$2; shift ;;
    --bench) read -r -a bench <<<"$2"; shift ;;
    --device) device=$2; shift ;;
    -h|--help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "gpu-check.sh: unknown argument '$1', see --help" >&2; exit 2 ;;
  esac
  shift
done
die() { echo "gpu-check.sh: $*" >&2; exit 1; }
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
wanted() { case " ${only[*]} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
for word in "${only[@]}"; do
  case $word in bad-input|alone|converted|ops|completions|invariance|verify|demo|tests|sanitize|bench) ;; *) die "--only holds '$word', see --help" ;; esac
done

case $device in
  cuda)
    command -v nvidia-smi >/dev/null || die "there is no nvidia-smi here, so no NVIDIA driver: run this on a machine with a GPU, or rehearse it with --device cpu"
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    [ -n "$name" ] || die "nvidia-smi found no GPU"
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) ;;
  cpu)
    name=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); name=${name:-$(uname -m)}; capability=none
    only=($(printf '%s\n' "${only[@]}" | grep -v -x -e tests -e sanitize)) ;;
  *) die "--device is '$device': use cuda or cpu" ;;
esac
mkdir -p "$results" || die "cannot make the folder '$results'"
results=$(cd "$results" && pwd)
rm -f "$results"/*.json "$results"/*.log "$results"/launched-*.txt
commit=$(cat COMMIT); export ORTBI_COMMIT=$commit
echo "$name, compute capability $capability, commit $commit"
failed=0

# tool NAME: where a program of the CUDA toolkit is.
tool() { command -v "$1" || echo "/usr/local/cuda/bin/$1"; }
# What runs every kernel once on little data, and what only other GPUs run: kernels for sm_90, and those that replace them where
# there is less shared memory.
sanitized=('gemm:*.EachKernelOnce' 'matmul_nbits:*.EachKernelOnce:*.RingsAreFilledAgain' 'group_query_attention:*.EachKernelOnce:*.RingsAreFilledAgain'
  'moe:*.EachKernelOnce:*.RingsAreFilledAgain' 'multi_head_attention:*.EachKernelOnce' 'norm:*.HasTheBytesOfTheContract'
  'softmax:*.EachKernelOnce:*.AreExact' 'elementwise:*' 'layout:*' 'self_test:*.EachKernelOnce:*.PassesOnThisDevice')
case $capability in 9.0) elsewhere='SplitKernelI.*ELi2EEEv|WalkKernelI' ;; *) elsewhere='Sm90|SplitKernelI|WalkKernelI' ;; esac

# ONNX Runtime's and .NET's libraries come with the programs; only the provider may have to be built.
library=$here/library/libort_batch_invariant.so
if [ ! -f "$library" ]; then
  [ $device = cuda ] || die "the archive holds no built library, and a rehearsal builds none"
  command -v cmake >/dev/null || die "the archive holds no built library and there is no cmake to build one"
  nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
  [ -x "$nvcc" ] || die "the archive holds no built library and there is no nvcc to build one: set CUDACXX"
  case $capability in 9.0) architecture=90a-real ;; *) architecture=${capability/./}-real ;; esac
  say "Building for $architecture with $nvcc"
  targets=(ort_batch_invariant); configure=()
  if wanted tests || wanted sanitize; then
    targets+=(cuda_tests)
    configure+=(-DBATCH_INVARIANT_TESTS=ON -DBATCH_INVARIANT_CUDA_TESTS=ON -DBATCH_INVARIANT_GOOGLETEST_SOURCE="$here/googletest")
  fi
  generator=(); if command -v ninja >/dev/null; then generator=(-G Ninja); fi
  {
    cmake -S source -B build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DORT_BATCH_INVARIANT_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc" \
      -DCMAKE_CUDA_ARCHITECTURES="$architecture" -DORT_INCLUDE_DIR="$here/onnxruntime/include" "${configure[@]}" &&
    cmake --build build --parallel "$(nproc)" --target "${targets[@]}"
  } > "$results/build.txt" 2>&1 || { grep -n -m 20 -E 'error|Error' "$results/build.txt" >&2; die "the library did not build, see $results/build.txt"; }
  mkdir -p library
  find build -name 'cuda_*_test' -type f -perm -u+x -exec cp {} library/ \;
  cp "$(find build -name libort_batch_invariant.so | head -n 1)" "$library"
fi
export ORT_BATCH_INVARIANT_LIBRARY=$library

stock=()
program=$here/program/ortbi-gpu
peer=$here/program-stock/ortbi-gpu
if [ -x "$peer" ]; then
  stock=(--stock)
  libraries=$(find /usr/local /opt /usr/lib -xdev \( -name libcublas.so.13 -o -name libcudart.so.13 -o -name libcurand.so.10 \) -printf '%h\n' 2>/dev/null | sort -u | tr '\n' ':')
  export ORT_CUDA_PROVIDER_LIBRARY=$here/program-stock/libonnxruntime_providers_cuda.so
fi
# check NAME PROGRAM ARGUMENT...: everything that it prints is kept in NAME.txt. It has a folder of models of its own and runs on $device.
check() {
  local label=$1 run=$2 status=0; shift 2
  LD_LIBRARY_PATH=${libraries:-}${LD_LIBRARY_PATH:-} timeout "$limit" "$run" "$@" --device "$device" --models "$here/models-made/$label" --json "$results/$label.json" "${quick[@]}" \
    2>&1 | tee "$results/$label.txt"
  status=${PIPESTATUS[0]}
  if [ $status -eq 124 ]; then echo "FAILED $label: it took longer than $limit s"; elif [ $status -ne 0 ]; then echo "FAILED $label: exit status $status"; fi
  return $status
}
# google_test LABEL COMMAND...: a GoogleTest program, perhaps under a tool; everything that it prints is kept in LABEL.log.
google_test() {
  local label=$1 status=0; shift
  timeout "$limit" "$@" > "$results/$label.log" 2>&1 || status=$?
  grep -E '^\[  (PASSED|FAILED)|elements compared|^self-test|SUMMARY' "$results/$label.log"
  [ $status -eq 0 ] || echo "FAILED $label: exit status $status, see $results/$label.log"
  return $status
}
# finds_planted TOOL TEST KERNEL: a kernel of that test does what it must not, and the tool must say so.
finds_planted() {
  timeout "$limit" "$sanitizer" --tool "$1" "${options[@]}" library/cuda_self_test_test --gtest_also_run_disabled_tests --gtest_filter="*.DISABLED_$2" > "$results/planted-$1.txt" 2>&1
  if grep -q "$3" "$results/planted-$1.txt" && grep -q -E '(ERROR|RACECHECK) SUMMARY: [1-9]' "$results/planted-$1.txt"; then
    echo "ok     $1 finds what is planted: $(grep SUMMARY "$results/planted-$1.txt")"
  else
    echo "FAILED $1 finds nothing where something is planted, see $results/planted-$1.txt"; return 1
  fi
}
# alone LABEL FUNCTION...: one of the two above with nothing beside it.
alone() { say "$1"; shift; "$@" || failed=$((failed + 1)); }
# at_once LABEL FUNCTION...: the same beside others, at most $most of them, and while the GPU has memory to spare. `finished` waits for them
# and prints what each said as soon as it is done.
started=(); most=10; spare=0
if [ $device = cuda ]; then spare=$(($(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1) / 3)); fi
has_memory() { [ $device = cpu ] || [ "$(nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits | head -n 1)" -ge $spare ]; }
at_once() {
  local label=$1 begun running; shift
  while running=$(jobs -rp | wc -l); [ "$running" -ge $most ] || { [ "$running" -gt 0 ] && ! has_memory; }; do sleep 0.2; done
  begun=$SECONDS
  { "$@" || : > "$results/$label.failed"; echo "$label took $((SECONDS - begun)) s"; mv "$results/$label.saying" "$results/$label.said"; } > "$results/$label.saying" 2>&1 &
  started+=("$label")
}
finished() {
  local label
  while [ ${#started[@]} -gt 0 ]; do
    for label in "${started[@]}"; do
      [ -e "$results/$label.said" ] || continue
      say "$label"; cat "$results/$label.said"
      [ ! -e "$results/$label.failed" ] || failed=$((failed + 1))
      rm -f "$results/$label.said" "$results/$label.failed"
      local left=() each
      for each in "${started[@]}"; do [ "$each" = "$label" ] || left+=("$each"); done
      started=("${left[@]}")
    done
    sleep 0.2
  done
}

# Custom ops on the CPU, and the same library in Python: a digest a batch size, of the first row's logits.
converted_cpu() {
  local model="demo fp32" folder head_size
  [ ${#quick[@]} -eq 0 ] || model="random fp32"
  device=cpu check converted-cpu "$program" converted --only "$model" || return
  python3 -c 'import numpy, onnxruntime' 2>/dev/null || return 0
  folder=$(ls -d models-made/converted-cpu/converted/"${model// /-}"-cpu-* | head -n 1)
  head_size=$(sed -n 's/.*"head_size": *\([0-9]*\).*/\1/p' "$folder/genai_config.json" | head -n 1)
  if timeout "$limit" python3 examples/first_logits.py "$folder/model.onnx" "$folder/libort_batch_invariant.so" "$head_size" > "$results/python.txt" 2>&1 &&
    [ "$(sort -u "$results/python.txt" | wc -l)" -eq 1 ]; then
    echo "ok     $(wc -l < "$results/python.txt") batches in Python's onnxruntime: $(head -n 1 "$results/python.txt") each"
  else
    echo "FAILED python, see $results/python.txt"; return 1
  fi
}

# `ortbi` itself as its user has it. It takes a CUDA provider of its own version of ONNX Runtime alone, and the stock peer is of another.
demo() {
  local status=0 arguments=(--quick)
  [ $device = cpu ] || arguments+=(--device cuda)
  env -u ORT_CUDA_PROVIDER_LIBRARY XDG_CACHE_HOME="$here/models-made/demo" timeout "$limit" cli/ortbi demo "${arguments[@]}" --json "$results/demo.json" \
    > "$results/demo.txt" 2>&1 || status=$?
  cat "$results/demo.txt"
  [ $status -eq 0 ] || echo "FAILED demo: exit status $status"
  return $status
}

# Fills the GPU's memory, so that nothing may run beside it.
if wanted bad-input; then alone bad-input check bad-input "$program" bad-input; fi
# Before what runs at once, so that nothing is beside it: a GPU gives programs their turns, and beside nine others a step takes four times
# as long. Stock kernels are set up anew for each shape of a batch, so that both are given few.
if wanted completions; then
  if [ ${#stock[@]} -eq 0 ]; then
    alone completions check completions "$program" completions --buckets
  else
    alone completions check completions "$peer" completions --stock --buckets --prompts 8 --seconds 60
  fi
fi
if wanted alone; then
  at_once alone check alone "$program" alone
  [ ${#stock[@]} -eq 0 ] || at_once alone-beside-stock check alone-beside-stock "$peer" alone --stock
fi
if wanted converted; then
  [ ${#stock[@]} -eq 0 ] || at_once converted check converted "$peer" converted --stock
  at_once converted-cpu converted_cpu
fi
if wanted ops; then
  if [ ${#stock[@]} -eq 0 ]; then
    at_once ops check ops "$program" ops
  else
    at_once ops check ops "$peer" ops --stock
  fi
fi
if wanted invariance; then
  at_once invariance check invariance "$program" invariance
  [ ${#stock[@]} -eq 0 ] || at_once invariance-stock check invariance-stock "$peer" invariance --stock --only "demo fp16" --max-rows 16
  at_once invariance-families check invariance-families "$program" invariance --families --max-rows 16
fi
if wanted verify; then
  if [ ${#stock[@]} -eq 0 ]; then
    at_once verify check verify "$program" verify --report "$results/verify"
  else
    at_once verify check verify "$peer" verify --stock --report "$results/verify"
  fi
fi
if wanted demo; then
  if [ -x cli/ortbi ]; then at_once demo demo; else failed=$((failed + 1)); echo "FAILED demo: the archive holds no ortbi"; fi
fi
finished
if { wanted tests || wanted sanitize; } && ! ls library/cuda_*_test >/dev/null 2>&1; then
  failed=$((failed + 1)); echo "FAILED tests: the archive holds no GPU test programs"
fi
if wanted tests; then
  for test in library/cuda_*_test; do
    [ ! -x "$test" ] || at_once "$(basename "$test")" google_test "$(basename "$test")" "$test"
  done
fi
if wanted sanitize; then
  sanitizer=$(tool compute-sanitizer)
  if [ ! -x "$sanitizer" ]; then
    echo "sanitize was skipped: there is no compute-sanitizer here (it comes with the CUDA toolkit)"
  else
    # Each takes several times the memory of its program.
    most=6
    # A tool that sees no kernel finds nothing either.
    # What one mbarrier orders by way of another, racecheck follows only if told to; a named barrier in between it does not follow even then.
    indirect=--racecheck-indirect-barrier-dependency
    "$sanitizer" --help 2>&1 | grep -q -e $indirect || indirect=
    options=()
    for tool in memcheck initcheck; do
      at_once "sanitize-$tool-finds" finds_planted $tool ReadsWhatItMustNot CountKernel
    done
    options=($indirect); at_once sanitize-racecheck-finds finds_planted racecheck ReadsBeforeTheBarrier ReversedKernel
    # racecheck takes minutes for the self-test, all whose kernels run elsewhere as well, and for rings that are filled again.
    for tool in racecheck initcheck synccheck memcheck; do
      options=(); if [ $tool = racecheck ]; then options=($indirect); fi
      for test in "${sanitized[@]}"; do
        label=$tool-${test%%:*}
        if [ $tool = racecheck ]; then test=${test%:\*.RingsAreFilledAgain}; test=${test%:\*.PassesOnThisDevice}; fi
        at_once "sanitize-$label" google_test "sanitize-$label" env BATCH_INVARIANT_LAUNCHED_KERNELS="$results/launched-$label.txt" \
          "$sanitizer" --tool $tool "${options[@]}" --error-exitcode 9 "library/cuda_${test%%:*}_test" "--gtest_filter=${test#*:}"
      done
    done
    finished
    say "Kernels under compute-sanitizer"
    "$(tool cuobjdump)" -symbols "$library" > "$results/symbols.txt" 2>&1
    "$program" kernels "$results/symbols.txt" "$results" --elsewhere "$elsewhere" --json "$results/kernels.json" || failed=$((failed + 1))
  fi
fi
finished
if wanted bench; then
  if [ ${#stock[@]} -eq 0 ]; then
    alone bench check bench "$program" bench --name "$name" "${bench[@]}"
  else
    alone bench check bench "$peer" bench --name "$name" --stock "${bench[@]}"
  fi
fi

say "Summary"
[ "${only[*]}" = bench ] || "$program" summary "$results" --json "$results/checks.json" --name "$name" --commit "$commit" || failed=$((failed + 1))
echo "$name: $([ $failed -eq 0 ] && echo PASSED || echo "FAILED ($failed)"), $SECONDS s, results in $results"
[ $failed -eq 0 ]
