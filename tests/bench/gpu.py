"""Anneal on a GPU against torch and FBGEMM on it: same rows, model and batch, in alternation. The other side reads nothing:
its batches lie in pinned memory.

Usage: gpu.py BUILD_DIR [--rounds N] [--steps N] [--workers N]
Prints a table and writes BUILD_DIR/reports/gpu.json. Part of `make gpu-check`.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import subprocess

import bench
import workloads

ROWS = 1 << 20  # read as often as the steps need


class GpuBench(bench.Bench):
    def __init__(self, build, rounds, steps, workers):
        super().__init__(build, rounds, steps)
        self.workers = workers

    def files(self, workload):
        return bench.data.make(self.work / "data", workload, ROWS, 1 << 18)

    def measure(self, workload, sides):
        samples = {name: bench.Samples(workload.batch) for name in sides}
        for _ in range(self.rounds):
            for name, (program, dtype, graphs) in sides.items():
                os.environ["ANNEAL_CUDA_GRAPHS"] = graphs
                if program == "ours":
                    options = {"mixed_precision": dtype.upper()} if dtype else {}
                    self.ours(workload, "train", self.workers, samples[name], num_workers=self.workers, **options)
                else:
                    self.baseline(workload, "train", self.workers, samples[name], device="cuda", dtype=dtype, checkpoint="")
        return {name: side.report() for name, side in samples.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--workers", type=int, default=max(1, min(8, (os.cpu_count() or 1) // 2)))
    args = parser.parse_args()
    gpu = GpuBench(args.build.resolve(), args.rounds, args.steps, args.workers)
    sides = {"ours": ("ours", "", "0"), "ours, graphs": ("ours", "", "1"), "torch + FBGEMM": ("baseline", "", "0"),
             "ours, bf16, graphs": ("ours", "bf16", "1"), "torch + FBGEMM, bf16": ("baseline", "bf16", "0")}
    name = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True).stdout
    report = {"gpu": name.splitlines()[0], "workers": args.workers}
    print(f"{report['gpu']}; {args.rounds} rounds of {args.steps} steps, in alternation; medians; {args.workers} reading threads")
    for workload in (workloads.deepfm(), dataclasses.replace(workloads.deepfm(), batch=32768), workloads.mmoe()):
        key = f"{workload.model}, batch {workload.batch}"
        report[key] = gpu.measure(workload, sides)
        print(f"\n{key}\n{'':22} {'samples/s':>10} {'wall ms':>8} {'CPU ms':>8} {'1st step s':>10}  ms of the loop's thread by phase (wait: wall)")
        for side, r in report[key].items():
            phases = " ".join(f"{phase} {value:.2f}" for phase, value in r["phases"].items() if value)
            print(f"{side:22} {r['samples_per_s']:10} {r['wall_ms']:8} {r['cpu_ms']:8} {r['first_step_s']:10}  {phases}", flush=True)
    reports = args.build / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")


main()
