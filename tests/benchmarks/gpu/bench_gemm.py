"""GEMM against cuBLAS through PyTorch: y[m, n] = a[m, k] w[n, k]^T.

bench_gemm.py LIBRARY [--out FILE] [--every-kernel] [--gated] [--quick] [--dtypes bfloat16,float16]
    [--batch-invariant-ops FOLDER]
LIBRARY is the shared library of harness.cu. --every-kernel also times each kernel of the table that
could make sense and names the fastest, for tuning the choice. --gated times silu(a gate) * (a up)
with both weights in one matrix of n columns; the peer is then cuBLAS, silu and a product.
--batch-invariant-ops also times the Triton kernel of thinking-machines-lab/batch_invariant_ops, a
checkout of which FOLDER is.
"""
import argparse
import ctypes
import math
import sys

import torch

import timing

SHAPES = [  # k, n
    (4096, 4096), (4096, 6144), (4096, 28672), (14336, 4096), (4096, 128256),  # Llama-3-8B
    (12288, 4096), (4096, 24576), (4096, 151936),  # Qwen3-8B
    (1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024), (1024, 151936),  # Qwen3-0.6B
    (4096, 1536), (1024, 4096), (4096, 7168), (3584, 4096),  # Llama-3-8B over 4 GPUs
]
PEERS = ("peer", "ours", "batch_invariant_ops")
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192]
QUICK_SHAPES = [(4096, 4096), (4096, 6144), (4096, 28672), (14336, 4096), (1024, 6144), (3072, 1024)]


def load_batch_invariant_ops(folder):
    sys.path.insert(0, folder)
    try:
        from batch_invariant_ops import matmul_persistent
    except ImportError as error:
        raise SystemExit(f"{folder}: no checkout of batch_invariant_ops ({error})")
    return matmul_persistent


def summary(name, rows, ratio):
    """Geometric means over three groups of row counts, and over all cells."""
    for low, high in ((1, 64), (65, 512), (513, 1 << 30), (1, 1 << 30)):
        ratios = [r[ratio] for r in rows if low <= r["rows"] <= high and ratio in r]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"{name} rows {low}..{high}: geometric mean {mean:.3f}, lowest {min(ratios):.3f}, "
                  f"highest {max(ratios):.3f}, cells {len(ratios)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--out")
    parser.add_argument("--every-kernel", action="store_true")
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--batch-invariant-ops", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dtypes", default="bfloat16,float16")
    parser.add_argument("--rows")
    parser.add_argument("--shapes", help="k:n,k:n")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--flush", choices=("read", "write"), default="read")
    options = parser.parse_args()
    lib = timing.load(options.library)
    triton_matmul = load_batch_invariant_ops(options.batch_invariant_ops) if options.batch_invariant_ops else None
    launch = lib.bi_gated_gemm if options.gated else lib.bi_gemm
    op = "MatMul, SiLU gate" if options.gated else "MatMul"

    shapes = QUICK_SHAPES if options.quick else sorted(set(SHAPES))
    if options.shapes:
        shapes = [tuple(map(int, s.split(":"))) for s in options.shapes.split(",")]
    counts = list(map(int, options.rows.split(","))) if options.rows else ROWS
    rows = []
    for dtype in options.dtypes.split(","):
        code, torch_type = timing.TYPES[dtype]
        for k, n in shapes:
            w = torch.randn(n, k, device="cuda", dtype=torch_type) * 0.05
            packed = torch.empty(lib.bi_gemm_packed_bytes(ctypes.c_int(code), timing.size(k), timing.size(n)),
                                 device="cuda", dtype=torch.uint8)
            lib.bi_gemm_pack(ctypes.c_int(code), timing.size(k), timing.size(n), timing.pointer(w),
                             timing.pointer(packed))
            sink = torch.zeros(1, device="cuda", dtype=torch.int32)
            for m in counts:
                if m * n > 600_000_000:
                    continue
                a = torch.randn(m, k, device="cuda", dtype=torch_type)
                y = torch.full((m, n // 2 if options.gated else n), float("nan"), device="cuda", dtype=torch_type)
                peer_y = torch.empty_like(y)
                products = torch.empty((m, n), device="cuda", dtype=torch_type) if options.gated else peer_y
                shape = (ctypes.c_int(code), timing.size(m), timing.size(n), timing.size(k),
                         timing.pointer(a), timing.pointer(packed), ctypes.c_int(2), timing.pointer(y))
                unpacked = shape[:5] + (timing.pointer(w), ctypes.c_int(1), timing.pointer(y))

                def ours(kernel, shape=shape):
                    if launch(ctypes.c_int(kernel), *shape, timing.stream()) != 0:
                        raise SystemExit("kernel failed")

                def peer():
                    torch.matmul(a, w.t(), out=products)
                    if options.gated:
                        timing.gate(products, peer_y)

                candidates = {"peer": peer, "ours": lambda: ours(-1)}
                if triton_matmul:
                    candidates["batch_invariant_ops"] = lambda: triton_matmul(a, w.t())
                choice = lib.bi_gemm_choice(*shape)
                if options.every_kernel:
                    candidates["unpacked"] = lambda: ours(choice, unpacked)
                    if m == counts[0]:
                        candidates["read"] = lambda: lib.bi_read_all(
                            timing.pointer(w), timing.size(w.nbytes), timing.pointer(sink), timing.stream())
                    for kernel in range(lib.bi_gemm_kernels()):
                        height = lib.bi_gemm_rows(kernel)
                        fits = height >= 64 if m > 256 else m <= 4 * height and height <= max(2 * m, 16)
                        if lib.bi_gemm_serves(ctypes.c_int(kernel), *shape) and fits:
                            name = lib.bi_gemm_name(kernel).decode()
                            if name.startswith("tile_"):
                                continue
                            candidates[name] = lambda kernel=kernel: ours(kernel)
                large = m * n * k > 2e11
                times = timing.time_in_turn(candidates, 5 if large else options.repeats, options.flush)
                floor = max((n * k + m * k + y.numel()) * 2 / timing.COPY_BYTES_PER_US,
                            2.0 * m * n * k / timing.FLOP_PER_US)
                error = ((y.float() - peer_y.float()).norm() / peer_y.float().norm()).item()
                if not error < 1e-2:
                    raise SystemExit(f"m {m} n {n} k {k}: relative difference to the peer {error}")
                rows.append({
                    "subject": "gemm", "op": op, "shape": f"k{k} n{n}", "dtype": dtype, "rows": m,
                    "peer": "cuBLAS (PyTorch)", "peerMicroseconds": round(times["peer"], 2),
                    "microseconds": round(times["ours"], 2), "floorMicroseconds": round(floor, 2),
                    "ratio": round(times["peer"] / times["ours"], 3),
                    "kernel": lib.bi_gemm_name(choice).decode(),
                })
                line = rows[-1]
                if triton_matmul:
                    line["batchInvariantOpsMicroseconds"] = round(times["batch_invariant_ops"], 2)
                    line["batchInvariantOpsRatio"] = round(times["batch_invariant_ops"] / times["ours"], 3)
                text = (f"{dtype[:4]} k{k:6d} n{n:7d} m{m:5d} cublas {times['peer']:8.1f} ours {times['ours']:8.1f} "
                        f"floor {floor:8.1f} ratio {line['ratio']:.2f} {line['kernel']}")
                if triton_matmul:
                    text += f" batch_invariant_ops {times['batch_invariant_ops']:.1f}"
                if options.every_kernel:
                    rows[-1]["kernels"] = {c: round(t, 2) for c, t in times.items() if c not in PEERS}
                    others = sorted((t, c) for c, t in times.items() if c not in PEERS)
                    text += " | " + " ".join(f"{c} {t:.1f}" for t, c in others)
                print(text, flush=True)
            del w, packed
    summary("cuBLAS / ours", rows, "ratio")
    summary("batch_invariant_ops / ours", rows, "batchInvariantOpsRatio")
    if options.out:
        timing.write_records(options.out, " ".join(sys.argv), timing.commit(), rows)


if __name__ == "__main__":
    main()
