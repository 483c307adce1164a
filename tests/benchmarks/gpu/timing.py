"""Timing for the GPU benchmarks: caches flushed before every run, candidates in turn, medians."""
import ctypes
import datetime
import json
import statistics
import subprocess

import torch

FLUSH_BYTES = 512 << 20  # far above the L2; long enough for the host to run ahead
TYPES = {"float32": (0, torch.float32), "float16": (1, torch.float16), "bfloat16": (2, torch.bfloat16)}
COPY_BYTES_PER_US = 4.28e6  # measured on the H200: tests/benchmarks/gpu/NOTES.md
FLOP_PER_US = 790e6

_flush = None


def load(path):
    lib = ctypes.CDLL(path)
    lib.bi_gemm_name.restype = ctypes.c_char_p
    lib.bi_nbits_name.restype = ctypes.c_char_p
    lib.bi_gemm_packed_bytes.restype = ctypes.c_int64
    lib.bi_nbits_packed_bytes.restype = ctypes.c_int64
    return lib


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def stream():
    return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)


def size(value):
    return ctypes.c_int64(value)


def gate(products, y):
    """silu(gate) * up; the columns of both alternate in groups of eight in `products` [m, n], y is [m, n / 2]."""
    pairs = products.view(products.shape[0], -1, 2, 8)
    torch.mul(torch.nn.functional.silu(pairs[:, :, 0]), pairs[:, :, 1], out=y.view(y.shape[0], -1, 8))


def flush(mode):
    """Replaces what L2 holds. "read" leaves clean lines, as a layer before would; "write" leaves dirty
    ones, whose write-back the timed kernel then pays for (up to 60 MB)."""
    global _flush
    if _flush is None:
        _flush = torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    if mode == "read":
        _flush.max()
    else:
        _flush.zero_()


def captured(run):
    """A CUDA graph of one call, so that no host time is measured."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def time_in_turn(candidates, repeats, mode="read"):
    """Median microseconds of each callable; one run of each a round, L2 flushed before each run."""
    graphs = {name: captured(run) for name, run in candidates.items()}
    samples = {name: [] for name in candidates}
    for _ in range(repeats):
        events = []
        for name, graph in graphs.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush(mode)
            start.record()
            graph.replay()
            end.record()
            events.append((name, start, end))
        torch.cuda.synchronize()
        for name, start, end in events:
            samples[name].append(start.elapsed_time(end) * 1000.0)
    return {name: statistics.median(values) for name, values in samples.items()}


def write_records(path, command, commit, rows):
    record = {
        "device": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "command": command,
        "commit": commit,
        "onnxruntime": None,
        "torch": torch.__version__,
        "rows": rows,
    }
    with open(path, "w") as file:
        json.dump(record, file, indent=1)


def commit():
    try:
        return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True,
                                       stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
