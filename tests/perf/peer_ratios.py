#!/usr/bin/env python3
"""peer_ratios.py FOLDER: reads what peer.sh left there (llama.cpp's text, Vitrine's JSON) and prints medians, ratios and the bars."""

import glob
import json
import os
import re
import statistics
import sys


def value(report, dotted):
    """report["decode.tokens_per_s"] or report["decode"]["tokens_per_s"]"""
    if dotted in report:
        return report[dotted]
    for key in dotted.split("."):
        report = report[key]
    return report


def vitrine(folder, numerics, context, key):
    reports = []
    for p in glob.glob(os.path.join(folder, f"vitrine-{numerics}-{context}-*.json")):
        with open(p) as f:
            reports.append(value(json.load(f), key))
    return statistics.median(reports) if reports else None


def llama(folder, context, what):
    found = []
    for p in glob.glob(os.path.join(folder, f"llama-{context}-*.txt")):
        with open(p) as f:
            found += [float(v) for v in re.findall(rf"^\s*{what} @ \d+\s+([\d.]+) tok/s wall", f.read(), re.M)]
    return statistics.median(found) if found else None


def line(what, ratio, bar, detail):
    if ratio is None:
        return
    print(f"  {what:<58} {ratio:6.2f}   bar {bar:<6} {'met' if ratio >= bar else 'NOT MET'}   {detail}")


def ratio(a, b):
    return a / b if a and b else None


def main():
    folder = sys.argv[1]
    tg, pp = llama(folder, 512, r"tg\d+"), llama(folder, 512, r"pp\d+")
    for numerics in ("reference", "exact"):
        speed = vitrine(folder, numerics, 512, "decode.tokens_per_s")
        if speed is None:
            continue
        prefill, read = vitrine(folder, numerics, 512, "prefill.tokens_per_s"), vitrine(
            folder, numerics, 512, "read_gb_per_s"
        )
        share = vitrine(folder, numerics, 512, "decode.read_share")
        used = speed * vitrine(folder, numerics, 512, "decode.bytes_per_token") / 1e9
        print(f"{numerics}" + ("" if numerics == "reference" else " (no bar but the depth one; shown beside)"))
        line("decode at 512 / llama.cpp", ratio(speed, tg), 1.6, f"{speed:.1f} and {tg:.1f} tokens/s")
        line("decode at 512: share of read bandwidth, paired slices", share, 0.85, f"{used:.1f} of {read:.1f} GB/s")
        line("prefill of 512 / llama.cpp", ratio(prefill, pp), 4.0, f"{prefill:.0f} and {pp:.0f} tokens/s")
        deep, far = (vitrine(folder, numerics, n, "decode.tokens_per_s") for n in (16896, 65536))
        peer = llama(folder, 16896, r"tg\d+")
        line("decode at 16,896 / llama.cpp", ratio(deep, peer), 2.0, f"{deep or 0:.1f} and {peer or 0:.1f} tokens/s")
        line(
            "decode at 65,536 / at 512",
            ratio(far, speed),
            0.85 if numerics == "reference" else 0.75,
            f"{far or 0:.1f} and {speed:.1f} tokens/s",
        )


if __name__ == "__main__":
    main()
