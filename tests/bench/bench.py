"""Anneal against PyPI torch + fbgemm-gpu-cpu: same rows, model and batch, thread for thread, in alternation.

Usage: bench.py BUILD_DIR [--rounds N] [--steps N] [--only deepfm,mmoe,eval,bf16,growth]
Prints tables and writes BUILD_DIR/reports/bench.json. Wall time counts for samples/s; on a machine that is busy with other
work look at the CPU columns.
"""
import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import data
import floor
import workloads

HERE = pathlib.Path(__file__).resolve().parent
WARM_UP = 5
ROW_BYTES = (16 + 4) * 4 * 2  # of the growing table: deep and wide, weights and state
PHASES = ["read", "features", "wait", "lookup", "forward", "backward", "sparse_update", "dense_update", "rest"]


def run(command, threads, log, **variables):
    """Exit code 0 is required. Returns (Unix time of the start, peak MiB, log text)."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", **variables}
    began = time.time()
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    text = pathlib.Path(log).read_text()
    if status != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} failed:\n{text[-3000:]}")
    return began, usage.ru_maxrss / 1024, text


class Samples:
    """What the runs of one program left, over all rounds."""

    def __init__(self, batch):
        self.batch, self.steps, self.first, self.peak, self.save = batch, [], [], [], []

    def add(self, times, began, peak):
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(open(times))]
        self.first.append(rows[0]["at"] - began)
        self.peak.append(peak)
        self.steps += rows[WARM_UP:]

    def median(self, column):
        return statistics.median(row[column] for row in self.steps)

    def report(self):
        result = {"samples_per_s": round(1e3 * self.batch / self.median("wall")), "wall_ms": round(self.median("wall"), 1),
                  "cpu_ms": round(self.median("process_cpu"), 1), "first_step_s": round(min(self.first), 2),
                  "peak_mib": round(max(self.peak)), "phases": {phase: round(self.median(phase), 2) for phase in PHASES}}
        if self.save:
            result["save_s"] = round(min(self.save), 2)
        return result


class Bench:
    def __init__(self, build, rounds, steps):
        self.anneal, self.work = build / "bin/anneal", build / "bench"
        self.rounds, self.steps = rounds, steps
        self.work.mkdir(parents=True, exist_ok=True)

    def files(self, workload):
        rows = max((self.steps + 1) * workload.batch, 1 << 18)
        return data.make(self.work / "data", workload, rows, 1 << 18)

    def ours(self, workload, mode, threads, samples, ranks=1, **train_config):
        times, model_dir = self.work / "ours.csv", self.work / f"model-{workload.name}"
        config = self.work / "pipeline.config"
        if mode == "train":
            shutil.rmtree(model_dir, ignore_errors=True)
        train, evaluation = self.files(workload)
        config.write_text(workloads.pipeline_config(workload, model_dir, train, "" if mode == "train" else evaluation,
                                                    num_steps=self.steps, log_step_count_steps=1000000, **train_config))
        launch = [] if ranks == 1 else ["launch", "--nproc-per-node", ranks, "--"]
        began, peak, log = run([self.anneal, *launch, mode, "--pipeline_config_path", config], threads, self.work / "ours.log",
                               ANNEAL_STEP_TIMES=str(times))
        samples.add(times, began, peak)
        stamps = [time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1e3 for found in re.finditer(
            r"\[([^,\]]+),(\d+)\]\[INFO\] (?:Saving checkpoint|Saved dataloader state)", log)]
        if len(stamps) == 2:
            samples.save.append(stamps[1] - stamps[0])

    def baseline(self, workload, mode, threads, samples, **options):
        times, spec, checkpoint = self.work / "baseline.csv", self.work / "baseline.json", self.work / "baseline-checkpoint"
        shutil.rmtree(checkpoint, ignore_errors=True)
        train, evaluation = self.files(workload)
        spec.write_text(json.dumps({
            "mode": mode, "model": workload.model, "labels": workload.labels, "floats": workload.floats, "ids": workload.ids,
            "dim": workload.dim, "batch": workload.batch, "files": train if mode == "train" else evaluation,
            "steps": self.steps, "threads": threads, "times": str(times),
            "checkpoint": str(checkpoint) if mode == "train" else "", **options}))
        began, peak, log = run([sys.executable, "-W", "ignore", HERE / "baseline.py", spec], threads, self.work / "baseline.log")
        samples.add(times, began, peak)
        if found := re.search(r'\{"save_s": ([\d.]+)\}', log):
            samples.save.append(float(found[1]))
        shutil.rmtree(checkpoint, ignore_errors=True)

    def compare(self, workload, mode="train"):
        """Both programs with 1 and with 2 threads, round after round."""
        sides = {(name, threads): Samples(workload.batch) for name in ("ours", "baseline") for threads in (1, 2)}
        if mode == "eval":  # a model to evaluate
            self.ours(workload, "train", 2, Samples(workload.batch))
        for _ in range(self.rounds):
            for (name, threads), samples in sides.items():
                getattr(self, name)(workload, mode, threads, samples)
        result = {f"{name}_{threads}t": samples.report() for (name, threads), samples in sides.items()}
        one, two, base1, base2 = (result[key] for key in ("ours_1t", "ours_2t", "baseline_1t", "baseline_2t"))
        floor_ms = floor.products_ms(workload, backward=mode == "train")
        return {**two, "ratio_1t": ratio(one, base1, "samples_per_s"), "ratio_2t": ratio(two, base2, "samples_per_s"),
                "cpu_ratio_1t": ratio(base1, one, "cpu_ms"), "cpu_ratio_2t": ratio(base2, two, "cpu_ms"),
                "floor_ms_1t": round(floor_ms, 1), "floor_share": round(floor_ms / one["cpu_ms"], 3), **result}


def available_memory():
    """Bytes."""
    return int(re.search(r"MemAvailable: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024


def ratio(a, b, key):
    return round(a[key] / b[key], 2)


def print_comparison(title, result):
    print(f"\n{title}")
    print(f"{'':12} {'samples/s':>10} {'wall ms':>8} {'CPU ms':>8} {'1st step s':>10} {'peak MiB':>9} {'save s':>7}  CPU ms by phase (wait: wall)")
    for key in ("ours_1t", "baseline_1t", "ours_2t", "baseline_2t"):
        r = result[key]
        phases = " ".join(f"{name} {value:.1f}" for name, value in r["phases"].items() if value)
        print(f"{key:12} {r['samples_per_s']:10} {r['wall_ms']:8} {r['cpu_ms']:8} {r['first_step_s']:10} {r['peak_mib']:9} {r.get('save_s', ''):>7}  {phases}")
    print(f"ratio: 1 thread {result['ratio_1t']} (CPU time {result['cpu_ratio_1t']}), 2 threads {result['ratio_2t']} "
          f"(CPU time {result['cpu_ratio_2t']}); matrix products alone {result['floor_ms_1t']} CPU ms: {100 * result['floor_share']:.0f} % of the floor")


def bf16(bench, workload):
    """Mixed precision against float32, both ours."""
    sides = {"float32": {}, "bf16": {"mixed_precision": "BF16"}}
    samples = {name: Samples(workload.batch) for name in sides}
    for _ in range(bench.rounds):
        for name, config in sides.items():
            bench.ours(workload, "train", 2, samples[name], **config)
    reports = {name: s.report() for name, s in samples.items()}
    return {"ratio_to_float32": ratio(reports["bf16"], reports["float32"], "samples_per_s"), **reports}


def growth(bench):
    """Our training alone, one thread, as one thing grows."""
    rows = []

    def measure(what, value, workload, ranks=1):
        samples = Samples(workload.batch)
        bench.ours(workload, "train", 1, samples, ranks=ranks)
        report = samples.report()
        report["samples_per_s"] *= ranks
        rows.append({"grows": what, "value": value, **{key: report[key] for key in ("samples_per_s", "cpu_ms", "peak_mib", "phases")}})
        print(f"{what:12} {value:>9} {report['samples_per_s']:10} {report['cpu_ms']:8} {report['peak_mib']:9}")

    print(f"\nGrowth, DeepFM training, 1 thread a rank\n{'':12} {'':>9} {'samples/s':>10} {'CPU ms':>8} {'peak MiB':>9}")
    for batch in (1024, 4096, 8192, 16384):
        measure("batch", batch, workloads.deepfm(batch=batch, name="growth"))
    for count in (10**5, 10**6, 10**7, 10**8):
        if count * ROW_BYTES > available_memory() - (4 << 30):
            print(f"{'table rows':12} {count:>9} not measured: its {count * ROW_BYTES >> 30} GiB do not fit this machine")
            continue
        measure("table rows", count, workloads.deepfm({"cat_0": count, "cat_1": 1000, "cat_2": 1000, "cat_3": 1000}, name="growth"))
    for count in (4, 16, 64):
        measure("tables", count, workloads.deepfm({f"cat_{i}": 10**5 for i in range(count)}, name="growth"))
    for ranks in (1, 2):
        measure("ranks", ranks, workloads.deepfm(name="growth"), ranks=ranks)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--only", default="deepfm,mmoe,eval,bf16,growth")
    args = parser.parse_args()
    wanted = args.only.split(",")
    bench = Bench(args.build.resolve(), args.rounds, args.steps)
    report = {}
    comparisons = {"deepfm": ("deepfm_train", "DeepFM (Criteo), training", workloads.deepfm(), "train"),
                   "mmoe": ("mmoe_train", "MMoE (Taobao), training", workloads.mmoe(), "train"),
                   "eval": ("deepfm_eval", "DeepFM (Criteo), evaluation", workloads.deepfm(), "eval")}
    print(f"batch {workloads.BATCH}; {args.rounds} rounds of {args.steps} steps, in alternation; medians over the steps after the first {WARM_UP}")
    for name, (key, title, workload, mode) in comparisons.items():
        if name in wanted:
            report[key] = bench.compare(workload, mode)
            print_comparison(title, report[key])
    if "bf16" in wanted and "avx512bw" not in pathlib.Path("/proc/cpuinfo").read_text():
        print("\nBF16 training: not measured, this CPU has no AVX-512 and LibTorch computes bf16 products element by element")
    elif "bf16" in wanted:
        report["deepfm_bf16"] = bf16(bench, workloads.deepfm())
        print(f"\nBF16 training, 2 threads: {report['deepfm_bf16']['ratio_to_float32']} of float32's samples/s")
    if "growth" in wanted:
        report["growth"] = growth(bench)
    reports = args.build / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "bench.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
