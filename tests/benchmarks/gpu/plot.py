"""Ratio over rows, one panel a shape, of records that bench_gemm.py and bench_nbits.py wrote.

plot.py RECORD.json OUT.svg [--dtype float16]
"""
import argparse
import json

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
import matplotlib.pyplot as plt


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("record")
    parser.add_argument("out")
    parser.add_argument("--dtype")
    options = parser.parse_args()
    with open(options.record) as file:
        record = json.load(file)
    shapes = {}
    for row in record["rows"]:
        if options.dtype in (None, row["dtype"]):
            shapes.setdefault(row["shape"], []).append((row["rows"], row["ratio"]))
    if not shapes:
        raise SystemExit(f"{options.record}: no row of type {options.dtype}")
    columns = min(4, len(shapes))
    height = -(-len(shapes) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(2.6 * columns, 1.9 * height), sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(shapes):]:
        axis.axis("off")
    for axis, (shape, points) in zip(axes.flat, shapes.items()):
        points.sort()
        axis.axhline(1.0, color="0.6", linewidth=0.8)
        axis.plot([rows for rows, _ in points], [ratio for _, ratio in points], marker=".", linewidth=1)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(shape, fontsize=8)
        axis.tick_params(labelsize=7)
    peer = record["rows"][0]["peer"]
    figure.suptitle(f"{peer}: its time / ours, over rows; {record['device']}, {record['date']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
