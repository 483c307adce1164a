#!/usr/bin/env python3
"""Norms and gated activations against a copy of as many bytes, on one GPU, in alternating CUDA graphs.

  rowwise.py SHIM.so OUT.json

SHIM.so: rowwise_shim.cc linked with the kernels as a shared library. Buffers rotate so that they leave
the L2 cache; `ratio` is copy time / our time for the same bytes read and written.
"""
import ctypes
import datetime
import json
import subprocess
import sys

import torch

from attention import alternate, graph_of


def main():
    path, out = sys.argv[1:]
    shim = ctypes.CDLL(path)
    p64, pointer = ctypes.c_int64, ctypes.c_void_p
    shim.BenchmarkNorm.argtypes = [p64, p64] + [pointer] * 6
    shim.BenchmarkGated.argtypes = [p64, p64] + [pointer] * 3
    results = []
    make = lambda *shape: torch.randn(*shape, dtype=torch.bfloat16, device="cuda")
    for op, widths in (("SkipSimplifiedLayerNormalization", (1024, 4096, 5120)),
                       ("SimplifiedLayerNormalization", (4096,)), ("SiLU x up", (3072, 14336))):
        for width in widths:
            for rows in (1, 64, 512, 2048, 8192):
                streams = {"SkipSimplifiedLayerNormalization": 4, "SimplifiedLayerNormalization": 2,
                           "SiLU x up": 3}[op]
                moved = streams * rows * width * 2
                sets = max(1, min(64, -(-250_000_000 // moved)))
                ours, copies, keep = [], [], []
                gamma = make(width)
                for _ in range(sets):
                    x, y, total = make(rows, 2 * width), make(rows, width), make(rows, width)
                    half = moved // 4
                    source, target = make(half), make(half)
                    keep += [x, y, total, source, target]

                    def call(x=x, y=y, total=total):
                        stream = torch.cuda.current_stream().cuda_stream
                        if op == "SiLU x up":
                            bad = shim.BenchmarkGated(rows, width, x.data_ptr(), y.data_ptr(), stream)
                        else:
                            skip = x.data_ptr() + 2 * rows * width if streams == 4 else None
                            bad = shim.BenchmarkNorm(rows, width, x.data_ptr(), skip, gamma.data_ptr(),
                                                     y.data_ptr(), total.data_ptr(), stream)
                        if bad:
                            sys.exit("rowwise.py: a launch failed")
                    ours.append(call)
                    copies.append(lambda source=source, target=target: torch.mul(source, 1, out=target))
                time, copy = alternate([graph_of(ours), graph_of(copies)], sets, 0.05)
                results.append({"subject": "rowwise", "op": op, "shape": f"width {width}",
                                "dtype": "bfloat16", "rows": rows, "peer": "copy of the same bytes",
                                "peerMicroseconds": round(copy, 2), "microseconds": round(time, 2),
                                "floorMicroseconds": round(moved / 4.28e6, 2),
                                "ratio": round(copy / time, 3)})
                print(f"{op:34} width {width:6} rows {rows:6} {time:8.2f} us  copy {copy:8.2f}  "
                      f"{moved / time / 1e6:5.2f} TB/s  ratio {copy / time:4.2f}", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    with open(out, "w") as file:
        json.dump({"device": torch.cuda.get_device_name(), "date": datetime.date.today().isoformat(),
                   "command": "tests/benchmarks/gpu/rowwise.py", "commit": commit.stdout.strip(),
                   "onnxruntime": "", "rows": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
