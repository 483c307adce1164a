"""MatMulNBits: int4 and int8 weights. The peer here is cuBLAS on the same weights in 16 bits.

bench_nbits.py LIBRARY [--out FILE] [--every-kernel | --free] [--gated] [--dtypes float16,bfloat16]

--free also times every kernel that the contract excludes because it sums K in another number of runs: the fastest
of all is what our own build would do with the contract switched off.
--gated times silu(a gate) * (a up), both weights in one matrix of n rows; the peer is then cuBLAS, silu and a product.
"""
import argparse
import ctypes
import math
import sys

import torch

import timing

SHAPES = [(4096, 4096), (4096, 6144), (4096, 14336), (14336, 4096), (4096, 28672), (4096, 128256)]  # k, n
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
FORMATS = [(4, 32), (4, 128), (8, 32)]  # bits, block size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--out")
    parser.add_argument("--every-kernel", action="store_true")
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--dtypes", default="float16,bfloat16")
    parser.add_argument("--rows")
    parser.add_argument("--shapes", help="k:n,k:n")
    parser.add_argument("--formats", help="bits:block,bits:block")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--flush", choices=("read", "write"), default="read")
    options = parser.parse_args()
    lib = timing.load(options.library)
    if options.gated and (options.every_kernel or options.free):
        raise SystemExit("--gated times the library's choice alone")
    op = "MatMulNBits, SiLU gate" if options.gated else "MatMulNBits"

    def pairs(text, default):
        return [tuple(map(int, s.split(":"))) for s in text.split(",")] if text else default

    counts = list(map(int, options.rows.split(","))) if options.rows else ROWS
    rows = []
    for dtype in options.dtypes.split(","):
        code, torch_type = timing.TYPES[dtype]
        for k, n in pairs(options.shapes, SHAPES):
            for bits, block in pairs(options.formats, FORMATS):
                blocks = (k + block - 1) // block
                b = torch.randint(0, 256, (n, blocks, block * bits // 8), device="cuda", dtype=torch.uint8)
                scales = (torch.rand(n, blocks, device="cuda") * 0.01 + 0.001).to(torch_type)
                kind = (ctypes.c_int(bits), ctypes.c_int(block), ctypes.c_int(0))
                size = (timing.size(n), timing.size(k))
                packed = torch.empty(lib.bi_nbits_packed_bytes(ctypes.c_int(code), *size, *kind), device="cuda",
                                     dtype=torch.uint8)
                lib.bi_nbits_pack(ctypes.c_int(code), *size, *kind, timing.pointer(b), timing.pointer(scales), None,
                                  timing.pointer(packed))
                # The same weights in the element type, for the peer and as a check.
                if bits == 4:
                    q = torch.stack((b & 15, b >> 4), dim=-1).reshape(n, blocks, block)
                else:
                    q = b
                w = ((q.to(torch.float32) - 2 ** (bits - 1)) * scales.float().unsqueeze(-1)).to(torch_type)
                w = w.reshape(n, blocks * block)[:, :k].contiguous()
                del q
                for m in counts:
                    a = torch.randn(m, k, device="cuda", dtype=torch_type)
                    y = torch.full((m, n // 2 if options.gated else n), float("nan"), device="cuda", dtype=torch_type)
                    peer_y = torch.empty_like(y)
                    products = torch.empty((m, n), device="cuda", dtype=torch_type) if options.gated else peer_y
                    shape = (ctypes.c_int(code), timing.size(m), *size, *kind, timing.pointer(a), timing.pointer(packed),
                             timing.pointer(y))

                    def ours(kernel, shape=shape):
                        failed = (lib.bi_gated_nbits(*shape, timing.stream()) if options.gated
                                  else lib.bi_nbits(ctypes.c_int(kernel), *shape, timing.stream()))
                        if failed:
                            raise SystemExit("kernel failed")

                    def peer():
                        torch.matmul(a, w.t(), out=products)
                        if options.gated:
                            timing.gate(products, peer_y)

                    candidates = {"peer": peer, "ours": lambda: ours(-1)}
                    choice = lib.bi_nbits_choice(*shape)
                    if options.every_kernel or options.free:
                        serves = lib.bi_nbits_free if options.free else lib.bi_nbits_serves
                        for kernel in range(lib.bi_nbits_kernels()):
                            height = lib.bi_nbits_rows(kernel)
                            name = lib.bi_nbits_name(kernel).decode()
                            fits = m <= 4 * height and height <= max(2 * m, 8) and "tile" not in name or height == 256 and m > 256
                            if fits and serves(ctypes.c_int(kernel), *shape):
                                candidates[name] = lambda kernel=kernel: ours(kernel)
                    times = timing.time_in_turn(candidates, 5 if m * n * k > 2e11 else options.repeats, options.flush)
                    packed_bytes = n * k * bits / 8 + n * blocks * 2
                    floor = max((packed_bytes + (m * k + y.numel()) * 2) / timing.COPY_BYTES_PER_US,
                                2.0 * m * n * k / timing.FLOP_PER_US)
                    error = ((y.float() - peer_y.float()).norm() / peer_y.float().norm()).item()
                    if not error < 1e-2:
                        raise SystemExit(f"m {m} n {n} k {k}: relative difference to the peer {error}")
                    rows.append({
                        "subject": "matmul_nbits", "op": op, "shape": f"k{k} n{n} int{bits} block{block}",
                        "dtype": dtype, "rows": m, "peer": "cuBLAS 16-bit weights (PyTorch)",
                        "peerMicroseconds": round(times["peer"], 2), "microseconds": round(times["ours"], 2),
                        "floorMicroseconds": round(floor, 2), "ratio": round(times["peer"] / times["ours"], 3),
                        "kernel": lib.bi_nbits_name(choice).decode(),
                    })
                    text = (f"{dtype[:4]} k{k:6d} n{n:7d} int{bits}/{block:3d} m{m:5d} cublas16 {times['peer']:8.1f} ours "
                            f"{times['ours']:8.1f} floor {floor:8.1f} of-floor {floor / times['ours']:.2f} "
                            f"{rows[-1]['kernel']}")
                    if options.free:
                        fastest = min(t for c, t in times.items() if c != "peer")
                        rows[-1]["freeMicroseconds"] = round(fastest, 2)
                        rows[-1]["freeRatio"] = round(fastest / times["ours"], 3)
                    if options.every_kernel:
                        rows[-1]["kernels"] = {c: round(t, 2) for c, t in times.items() if c not in ("peer", "ours")}
                        others = sorted((t, c) for c, t in times.items() if c not in ("peer", "ours"))
                        text += " | " + " ".join(f"{c} {t:.1f}" for t, c in others)
                    print(text, flush=True)
                del w, packed, b
    ratios = [r["ratio"] for r in rows]
    if ratios:
        print(f"geometric mean {math.exp(sum(map(math.log, ratios)) / len(ratios)):.3f}, cells {len(ratios)}")
    free = [r["freeRatio"] for r in rows if "freeRatio" in r]
    if free:
        print(f"contract switched off / on: geometric mean {math.exp(sum(map(math.log, free)) / len(free)):.3f}, "
              f"lowest {min(free):.3f}")
    if options.out:
        timing.write_records(options.out, " ".join(sys.argv), timing.commit(), rows)


if __name__ == "__main__":
    main()
