"""Exports the demo's model and a DeepFM of 26 tables in every format and measures each: build/reports/export.json.

Usage: make bench-export      (tests/run_python tests/bench/export_bench.py; SCALE=0.01 makes the 26 tables smaller)

Per model and format: verified and max_abs_diff as the export's own check says, seconds and cpu_seconds of `anneal export` (its
rows are few, so that is load, write, compile and check), mib of what was published, p50_us and p99_us of one row on one thread.
Latencies are measured in turns, A B C A B C, the median of the turns counts, and so does that of their ratios. RTP and distributed
exports are asked through a row server in the same process, ONNX from Python (TorchScript lookups, then ONNX Runtime).
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy
import pyarrow
import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANNEAL = ROOT / "build/bin/anneal"
# Buckets of deepfm_criteo as the baseline had them: each table capped at a million rows.
BUCKETS = [1000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 1000000, 1000000, 405282, 10, 2209, 11938, 155, 4, 976, 14, 1000000,
           1000000, 1000000, 590152, 12973, 108, 36]
FORMATS = {"torchscript": ("TorchScript", "FP32"), "torchscript_int8": ("TorchScript", "INT8"), "aot": ("AOT", "FP32"),
           "aot_unified": ("AOTUnified", "FP32"), "onnx": ("ONNX", "FP32"), "rtp": ("RTP", "FP32"), "distributed": ("Distributed", "FP32")}
TURNS = 5
CALLS = 2000  # of a turn in Python


def run(*command, env=None):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          env={**os.environ, "ANNEAL_COMPILER_PYTHON": str(ROOT / "tests/run_python"), **(env or {})})
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


def criteo(folder, scale):
    """13 numbers, 26 ids; the DeepFM of deepfm_criteo."""
    buckets = [max(3, int(bucket * scale)) for bucket in BUCKETS]
    random, rows = numpy.random.default_rng(20260801), 4096
    columns = {"label": random.integers(0, 2, rows)}
    columns.update({f"int_{i}": random.exponential(1.0, rows).astype(numpy.float32) for i in range(13)})
    columns.update({f"cat_{i}": random.integers(0, bucket, rows) for i, bucket in enumerate(buckets)})
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    features = [f'feature_configs {{ raw_feature {{ feature_name: "int_{i}" }} }}' for i in range(13)]
    features += [f'feature_configs {{ id_feature {{ feature_name: "cat_{i}" num_buckets: {bucket} embedding_dim: 16 }} }}'
                 for i, bucket in enumerate(buckets)]
    names = [f'"cat_{i}"' for i in range(26)]
    group = lambda name, kind, members: f'feature_groups {{ group_name: "{name}" group_type: {kind} feature_names: [{", ".join(members)}] }}'
    (folder / "pipeline.config").write_text(f"""
train_input_path: "{folder}/rows.parquet"
eval_input_path: "{folder}/rows.parquet"
model_dir: "{folder}/model"
train_config {{ num_steps: 1 sparse_optimizer {{ adagrad_optimizer {{ lr: 0.001 }} constant_learning_rate {{ }} }}
  dense_optimizer {{ adam_optimizer {{ lr: 0.001 }} constant_learning_rate {{ }} }} }}
data_config {{ batch_size: 512 dataset_type: ParquetDataset fg_mode: FG_NONE label_fields: "label" num_workers: 1 }}
{chr(10).join(features)}
model_config {{
  {group("wide", "WIDE", names)}
  {group("fm", "DEEP", names)}
  {group("deep", "DEEP", [f'"int_{i}"' for i in range(13)] + names)}
  deepfm {{ deep {{ hidden_units: [512, 256, 128] }} final {{ hidden_units: [64] }} wide_embedding_dim: 4 }}
  metrics {{ auc {{ }} }} losses {{ binary_cross_entropy {{ }} }}
}}
""")


def movielens(folder):
    """The demo's model on made-up rows, trained for a moment. RTP knows no vocabularies: its one feature with two words is hashed."""
    run(ROOT / "build/bin/anneal-movielens-prepare", "--synthetic", 20000, "--out", folder)
    text = (ROOT / "examples/movielens/pipeline.config").read_text()
    for old, new in (('vocab_list: ["M", "F"]', "hash_bucket_size: 10"), ("num_epochs: 8", "num_steps: 20"), ("save_checkpoints_epochs: 1", "")):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "pipeline.config").write_text(text)
    return json.dumps({"model_dir": str(folder / "model"), "train_input_path": str(folder / "train.parquet"),
                       "eval_input_path": str(folder / "test.parquet")})


def one_row(folder):
    """The input dictionary of a row, from fg.json."""
    import torch
    rows = {}
    for feature in json.loads((folder / "fg.json").read_text())["features"]:
        name = feature["feature_name"]
        if feature["feature_type"] == "raw_feature" and "boundaries" not in feature:
            rows[name + ".values"] = torch.zeros(1, feature.get("value_dim", 1))
        else:
            rows[name + ".values"], rows[name + ".lengths"] = torch.ones(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    return rows


def ask_onnx(folder):
    """Microseconds of each call; what it loads is kept for the next turn."""
    import onnxruntime
    import torch
    if folder not in ask_onnx.loaded:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(folder / "dense.onnx"), options, providers=["CPUExecutionProvider"])
        ask_onnx.loaded[folder] = session, torch.jit.load(str(folder / "scripted_sparse_model.pt")), one_row(folder)
    session, sparse, rows = ask_onnx.loaded[folder]
    names, times = [part.name for part in session.get_inputs()], []
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(CALLS):
            start = time.perf_counter()
            cut = sparse(rows)
            session.run(None, {name: cut[name].numpy() for name in names})
            times.append((time.perf_counter() - start) * 1e6)
    times = sorted(times[CALLS // 5:])  # warm by then
    return {"p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}


ask_onnx.loaded = {}


def ask(folder):
    run(ANNEAL, "bench-serve", folder, "--batch_sizes", 1, "--seconds", 1, "--report", folder.with_suffix(".bench.json"))
    return json.loads(folder.with_suffix(".bench.json").read_text())["measurements"][0]


def measure_latency(folder, results):
    # A row server needs to know the lookups; RTP's own knows them from elsewhere.
    shutil.copy(folder / "torchscript/pipeline.config", folder / "rtp/pipeline.config")
    turns = {name: [] for name in results}
    for _ in range(TURNS):
        for name in results:
            turns[name].append(ask_onnx(folder / name) if name == "onnx" else ask(folder / name))
    for name, found in turns.items():
        for key in ("p50_us", "p99_us"):
            results[name][key] = round(statistics.median(turn[key] for turn in found), 1)
        results[name]["speedup"] = round(statistics.median(base["p50_us"] / turn["p50_us"] for base, turn in zip(turns["torchscript"], found)), 2)


def export_all(folder, edits):
    flags = ["--edit_config_json", edits] if edits else []
    run(ANNEAL, "train", "--pipeline_config_path", folder / "pipeline.config", *flags)
    results = {}
    for name, (format, quantization) in FORMATS.items():
        target = folder / name
        start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        run(ANNEAL, "export", "--pipeline_config_path", folder / "pipeline.config", "--export_dir", target, "--format", format,
            "--quantization", quantization, *flags)
        seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads((target / "export_report.json").read_text())
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        results[name] = {"verified": report["passed"], "max_abs_diff": report["max_abs_diff"], "seconds": round(seconds, 2),
                         "cpu_seconds": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
                         "mib": round(size / 2**20, 2), "metrics": report["metrics"]}
        print(folder.name, name, results[name], flush=True)
    measure_latency(folder, results)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the 26 tables' rows")
    parser.add_argument("--models", default="demo,deepfm_26")
    arguments = parser.parse_args()
    work, reports = ROOT / "build/bench-export", ROOT / "build/reports"
    shutil.rmtree(work, ignore_errors=True)
    reports.mkdir(parents=True, exist_ok=True)
    models = {}
    for model in arguments.models.split(","):
        folder = work / model
        folder.mkdir(parents=True)
        edits = criteo(folder, arguments.scale) if model == "deepfm_26" else movielens(folder)
        models[model] = export_all(folder, edits)
    # `formats` is the demo's: its model is the one that a service is likely to look like.
    first = next(iter(models))
    report = {"model": first, "formats": models[first], "models": models, "scale": arguments.scale,
              "aot_speedup": {model: max(found["aot"]["speedup"], found["aot_unified"]["speedup"]) for model, found in models.items()}}
    (reports / "export.json.new").write_text(json.dumps(report, indent=1))
    (reports / "export.json.new").rename(reports / "export.json")
    print(f"\n{'model':10} {'format':18} {'verified':8} {'max diff':>9} {'seconds':>8} {'CPU s':>7} {'MiB':>9} {'p50 us':>8} {'p99 us':>8} {'x TorchScript':>14}")
    for model, found in models.items():
        for name, line in found.items():
            print(f"{model:10} {name:18} {str(line['verified']):8} {line['max_abs_diff']:9.1e} {line['seconds']:8.1f} {line['cpu_seconds']:7.1f} "
                  f"{line['mib']:9.1f} {line['p50_us']:8.1f} {line['p99_us']:8.1f} {line['speedup']:14.2f}")
    print("->", reports / "export.json")


main()
