#!/usr/bin/env python3
"""GroupQueryAttention against PyTorch SDPA (flash) on one GPU, alternating runs of CUDA graphs.

  attention.py SHIM.so OUT.json [decode] [prefill] [variants]

SHIM.so: attention_shim.cc linked with the kernels as a shared library. Decode keys and values rotate
over enough copies to leave the L2 cache. Writes benchmark records; prints one line a row.
"""
import ctypes
import datetime
import json
import statistics
import subprocess
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


class Problem(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int32) for n in (
        "bfloat16", "batch", "tokens", "heads", "kv_heads", "head_size", "total", "capacity", "window",
        "whole_op")] + [(n, ctypes.c_void_p) for n in (
            "query", "key_cache", "value_cache", "output", "last_key", "cosines", "sines",
            "workspace")] + [("workspace_bytes", ctypes.c_int64)]


def graph_of(calls):
    """A CUDA graph of the calls, warmed up."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            call()
    return graph


def alternate(graphs, calls_each, seconds):
    """Median microseconds a call of each graph, the graphs taking turns."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = [[] for _ in graphs]
    for graph in graphs:
        graph.replay()
    torch.cuda.synchronize()
    spent, turns = 0.0, 0
    while turns < 5 or (spent < seconds * 1000 and turns < 200):
        for graph, own in zip(graphs, times):
            start.record()
            graph.replay()
            stop.record()
            torch.cuda.synchronize()
            elapsed = start.elapsed_time(stop)
            own.append(elapsed * 1000 / calls_each)
            spent += elapsed
        turns += 1
    return [statistics.median(t) for t in times]


class Bench:
    def __init__(self, shim, copy_tbps):
        self.shim = ctypes.CDLL(shim)
        self.shim.BenchmarkWorkspaceBytes.restype = ctypes.c_int64
        self.shim.BenchmarkRun.restype = ctypes.c_int64
        self.shim.BenchmarkRun.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self.rows = []
        self.copy = copy_tbps

    def run(self, name, batch, tokens, past, heads, kv_heads, size, dtype, window=-1, seconds=0.15):
        total = past + tokens
        capacity = total
        cache_bytes = 2 * batch * kv_heads * capacity * size * 2
        # Of a prompt several, so that starting the graph is not what is timed.
        sets = max(1, min(16, 8192 // tokens if past == 0 else -(-200_000_000 // cache_bytes)))
        make = lambda *shape: torch.randn(*shape, dtype=dtype, device="cuda")
        last = torch.full((batch,), total - 1, dtype=torch.int32, device="cuda")
        cosines, sines = make(capacity, size // 2), make(capacity, size // 2)
        keep, ours, core, peers = [], [], [], []
        for _ in range(sets):
            query = make(batch, tokens, (heads + 2 * kv_heads) * size)
            keys, values = make(batch, kv_heads, capacity, size), make(batch, kv_heads, capacity, size)
            output = torch.full((batch, tokens, heads * size), float("nan"), dtype=dtype, device="cuda")
            for whole in (1, 0):
                p = Problem(int(dtype == torch.bfloat16), batch, tokens, heads, kv_heads, size, total,
                            capacity, window, whole)
                p.query, p.key_cache, p.value_cache = query.data_ptr(), keys.data_ptr(), values.data_ptr()
                p.output, p.last_key = output.data_ptr(), last.data_ptr()
                p.cosines, p.sines = cosines.data_ptr(), sines.data_ptr()
                p.workspace_bytes = self.shim.BenchmarkWorkspaceBytes(ctypes.byref(p))
                if p.workspace_bytes < 0:
                    sys.exit("attention.py: the shape was refused")
                workspace = torch.empty(max(p.workspace_bytes, 16), dtype=torch.uint8, device="cuda")
                p.workspace = workspace.data_ptr()
                keep += [p, workspace]

                def call(p=p):
                    if self.shim.BenchmarkRun(ctypes.byref(p), torch.cuda.current_stream().cuda_stream):
                        sys.exit("attention.py: a launch failed")
                (ours if whole else core).append(call)
            q = make(batch, heads, tokens, size)
            keep += [query, keys, values, output, q]
            sdpa = torch.nn.functional.scaled_dot_product_attention
            if window < 0:
                peers.append(lambda q=q, k=keys, v=values: sdpa(q, k, v, is_causal=past == 0,
                                                                enable_gqa=heads != kv_heads))
        graphs = [graph_of(ours), graph_of(core)]
        if peers:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                graphs.append(graph_of(peers))
        times = alternate(graphs, sets, seconds)
        bad = int(torch.isnan(output).sum())
        whole, alone = times[:2]
        peer = times[2] if peers else None
        kv = min(total, window if window > 0 else total)
        if past:
            floor = cache_bytes / total * kv / (self.copy * 1e6)
        else:
            pairs = sum(min(i + 1, window) if window > 0 else i + 1 for i in range(tokens))
            floor = 4.0 * batch * heads * size * pairs / 790e6
        shape = (f"batch {batch}, {tokens} tokens after {past}, heads {heads}/{kv_heads}, head size {size}"
                 + (f", window {window}" if window > 0 else ""))
        for op, time in (("GroupQueryAttention", whole), ("attention alone", alone)):
            self.rows.append({
                "subject": name, "op": op, "shape": shape, "dtype": str(dtype).removeprefix("torch."),
                "rows": batch * tokens, "peer": "PyTorch SDPA (flash)" if peers else "",
                "peerMicroseconds": peer and round(peer, 2), "microseconds": round(time, 2),
                "floorMicroseconds": round(floor, 2), "ratio": peer and round(peer / time, 3)})
        print(f"{name:8} {shape:62} op {whole:9.1f} alone {alone:9.1f} peer {peer or 0:9.1f} "
              f"floor {floor:8.1f} ratio {(peer or 0) / whole:5.2f} of floor {floor / alone:4.2f}"
              + (f"  {bad} NaN" if bad else ""), flush=True)
        if bad:
            sys.exit("attention.py: outputs were left unwritten")


def copy_bandwidth():
    """Bytes read and written by a kernel (a copy in a graph would go to the copy engine)."""
    a = torch.randn(1 << 30, dtype=torch.float16, device="cuda")
    b = torch.empty_like(a)
    copy = graph_of([lambda: torch.mul(a, 1, out=b)])
    return 2 * a.numel() * 2 / alternate([copy], 1, 0.1)[0] / 1e6


def main():
    shim, out, *subjects = sys.argv[1:]
    copy = copy_bandwidth()
    print(f"copy {copy:.2f} TB/s", flush=True)
    bench = Bench(shim, copy)
    bf16, fp16 = torch.bfloat16, torch.float16
    if "decode" in subjects:
        for past in (1023, 8191, 32767):
            for batch in (1, 8, 32, 128):
                if batch * past < 1.2e6:
                    bench.run("decode", batch, 1, past, 32, 8, 128, bf16)
        for size, heads, kv_heads in ((64, 32, 8), (256, 16, 8)):
            for batch, past in ((1, 8191), (16, 8191), (64, 1023)):
                bench.run("decode", batch, 1, past, heads, kv_heads, size, bf16)
    if "prefill" in subjects:
        for size, heads, kv_heads in ((128, 32, 8), (64, 32, 8), (256, 16, 8)):
            for tokens in (512, 1024, 2048, 8192, 16384):
                bench.run("prefill", 1, tokens, 0, heads, kv_heads, size, bf16)
    if "variants" in subjects:
        bench.run("decode", 8, 1, 4095, 32, 8, 128, fp16)
        bench.run("verify", 8, 5, 4091, 32, 8, 128, bf16)
        bench.run("decode", 8, 1, 8191, 32, 8, 128, bf16, window=1024)
        bench.run("prefill", 1, 8192, 0, 32, 8, 128, fp16)
        bench.run("prefill", 1, 8192, 0, 32, 8, 128, bf16, window=1024)
        bench.run("chunk", 1, 512, 7680, 32, 8, 128, bf16)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    with open(out, "w") as file:
        json.dump({"device": torch.cuda.get_device_name(), "date": datetime.date.today().isoformat(),
                   "command": "tests/benchmarks/gpu/attention.py " + " ".join(subjects),
                   "commit": commit.stdout.strip(), "onnxruntime": "", "rows": bench.rows}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
