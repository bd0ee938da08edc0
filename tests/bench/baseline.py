"""The other side of `make bench`: the same model on the same rows with PyPI's torch and fbgemm-gpu-cpu, as one would write
it for speed in Python: all tables in one table-batched embedding with the optimizer fused into backward, batches prepared
ahead by a thread. Writes the CSV of ANNEAL_STEP_TIMES.

Usage: baseline.py SPEC.json    fields: mode (train|eval), model, labels, floats, ids, dim, batch, files, steps, threads,
                                times (CSV to write), checkpoint (folder to save to at the end, optional), dtype (bf16, optional),
                                device (cuda, optional: the batches are then read before the first step and used in turn)
"""
import glob
import itertools
import json
import queue
import sys
import threading
import time

import numpy
import pyarrow.parquet
import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice, EmbeddingLocation, PoolingMode, SplitTableBatchedEmbeddingBagsCodegen)

WIDE_DIM = 4
PHASES = ["wait", "lookup", "forward", "backward", "sparse_update", "dense_update", "rest"]


class Clock:
    """Milliseconds of the loop's thread per phase; a line per step."""

    def __init__(self, path):
        self.file = open(path, "w")
        print("step", *PHASES, "wall", "process_cpu", "read", "features", "at", sep=",", file=self.file)
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.last = self.began = self.now()

    @staticmethod
    def now():
        return time.perf_counter() * 1e3, time.thread_time() * 1e3, time.process_time() * 1e3

    def end(self, phase):
        now = self.now()
        which = 0 if phase == "wait" else 1
        self.phases[phase] += now[which] - self.last[which]
        self.last = now

    def end_step(self, step):
        self.end("rest")
        print(step, *(f"{v:.3f}" for v in self.phases.values()), f"{self.last[0] - self.began[0]:.3f}",
              f"{self.last[2] - self.began[2]:.3f}", 0, 0, f"{time.time():.6f}", sep=",", file=self.file, flush=True)
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.began = self.last


def batches(spec):
    """Tensors of a batch, prepared ahead by a thread; passes over the files until `steps` batches were made."""
    ready = queue.Queue(maxsize=2)
    ids, floats = list(spec["ids"]), [f"int_{i}" for i in range(spec["floats"])]

    def read():
        made = 0
        while made < spec["steps"]:
            for path in sorted(glob.glob(spec["files"])):
                for rows in pyarrow.parquet.ParquetFile(path).iter_batches(spec["batch"], use_threads=False):
                    if rows.num_rows < spec["batch"] or made == spec["steps"]:
                        continue
                    values = numpy.concatenate([rows.column(name).to_numpy() for name in ids])
                    dense = numpy.stack([rows.column(name).to_numpy() for name in floats], 1) if floats else None
                    labels = [torch.from_numpy(rows.column(name).to_numpy().astype(numpy.float32)) for name in spec["labels"]]
                    ready.put((torch.from_numpy(values), torch.from_numpy(dense) if floats else None, labels))
                    made += 1
        ready.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(ready.get, None)


def on_device(spec):
    """Batches as CUDA tensors. Python could not read as fast as the device computes: pinned ones in turn."""
    kept = [[tensor.pin_memory() for tensor in (ids, dense, *labels) if tensor is not None]
            for ids, dense, labels in batches({**spec, "steps": min(spec["steps"], 32)})]
    for pinned in itertools.islice(itertools.cycle(kept), spec["steps"]):
        ids, *others = [tensor.to("cuda", non_blocking=True) for tensor in pinned]
        dense = others.pop(0) if spec["floats"] else None
        yield ids, dense, others


def mlp(width, units):
    layers = []
    for unit in units:
        layers += [torch.nn.Linear(width, unit), torch.nn.ReLU()]
        width = unit
    return torch.nn.Sequential(*layers)


def tables(rows, dims, device):
    place = (EmbeddingLocation.DEVICE, ComputeDevice.CUDA) if device == "cuda" else (EmbeddingLocation.HOST, ComputeDevice.CPU)
    return SplitTableBatchedEmbeddingBagsCodegen(
        [(count, dim, *place) for count, dim in zip(rows, dims)],
        optimizer=EmbOptimType.EXACT_ADAGRAD, learning_rate=0.001, eps=1e-8, pooling_mode=PoolingMode.SUM,
        device=torch.device(device))


class DeepFm(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.fields, self.dim = len(spec["ids"]), spec["dim"]
        self.deep = mlp(spec["floats"] + self.fields * self.dim, (512, 256, 128))
        self.final = mlp(1 + self.dim + 128, (64,))
        self.output = torch.nn.Linear(64, 1)
        rows = list(spec["ids"].values())
        self.embedding = [tables(rows + rows, [self.dim] * self.fields + [WIDE_DIM] * self.fields, spec["device"])]
        self.copies = 2

    def forward(self, looked_up, dense):
        deep, wide = looked_up.split([self.fields * self.dim, self.fields * WIDE_DIM], 1)
        fields = deep.reshape(-1, self.fields, self.dim)
        fm = 0.5 * (fields.sum(1).square() - fields.square().sum(1))
        hidden = self.deep(torch.cat([dense, deep], 1))
        return [self.output(self.final(torch.cat([wide.sum(1, keepdim=True), fm, hidden], 1))).squeeze(1)]


class Mmoe(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        width = len(spec["ids"]) * spec["dim"]
        self.experts = torch.nn.ModuleList(mlp(width, (512, 256, 128)) for _ in range(3))
        self.gates = torch.nn.ModuleList(torch.nn.Linear(width, 3) for _ in spec["labels"])
        self.towers = torch.nn.ModuleList(torch.nn.Sequential(mlp(128, (256, 128, 64)), torch.nn.Linear(64, 1)) for _ in spec["labels"])
        rows = list(spec["ids"].values())
        self.embedding = [tables(rows, [spec["dim"]] * len(rows), spec["device"])]
        self.copies = 1

    def forward(self, looked_up, dense):
        experts = torch.stack([expert(looked_up) for expert in self.experts], 1)
        outputs = []
        for gate, tower in zip(self.gates, self.towers):
            mixed = torch.bmm(torch.softmax(gate(looked_up), 1).unsqueeze(1), experts).squeeze(1)
            outputs.append(tower(mixed).squeeze(1))
        return outputs


class Auc:
    """Counts per threshold, as torchmetrics' binned AUROC keeps them."""

    def __init__(self, thresholds=200):
        self.thresholds = torch.linspace(0, 1, thresholds)
        self.counts = torch.zeros(2, thresholds + 1, dtype=torch.long)

    def update(self, predictions, labels):
        reached = torch.bucketize(predictions, self.thresholds, right=True)
        for label in (0, 1):
            self.counts[label] += torch.bincount(reached[labels == label], minlength=self.counts.shape[1])


def save(model, optimizer, folder):
    import torch.distributed.checkpoint
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    for index, (weight, (moment,)) in enumerate(zip(model.embedding[0].split_embedding_weights(),
                                                    model.embedding[0].split_optimizer_states())):
        state[f"table.{index}"], state[f"table.{index}.momentum1"] = weight, moment
    torch.distributed.checkpoint.save(state, checkpoint_id=folder, no_dist=True)


def main():
    spec = {"device": "cpu", **json.load(open(sys.argv[1]))}
    device = spec["device"]
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(1)
    clock = Clock(spec["times"])
    model = {"deepfm": DeepFm, "mmoe": Mmoe}[spec["model"]](spec).to(device)
    embedding = model.embedding[0]
    for rows, weight in zip(list(spec["ids"].values()) * model.copies, embedding.split_embedding_weights()):
        weight.uniform_(-rows ** -0.5, rows ** -0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, **({"fused": True} if device == "cuda" else {}))
    offsets = torch.arange(0, len(spec["ids"]) * model.copies * spec["batch"] + 1, dtype=torch.long, device=device)
    training = spec["mode"] == "train"
    metrics = [Auc() for _ in spec["labels"]]
    loss_function = torch.nn.functional.binary_cross_entropy_with_logits
    with torch.set_grad_enabled(training):
        for step, (ids, dense, labels) in enumerate(on_device(spec) if device == "cuda" else batches(spec)):
            clock.end("wait")
            looked_up = embedding(ids.repeat(model.copies), offsets)
            clock.end("lookup")
            with torch.autocast(device, torch.bfloat16, enabled=spec.get("dtype") == "bf16"):
                outputs = model(looked_up, dense)
            loss = sum(loss_function(output.float(), label) for output, label in zip(outputs, labels))
            clock.end("forward")
            if training:
                optimizer.zero_grad()
                loss.backward()
                clock.end("backward")
                optimizer.step()
                clock.end("dense_update")
            else:
                for metric, output, label in zip(metrics, outputs, labels):
                    metric.update(torch.sigmoid(output), label)
                loss.item()
            clock.end_step(step)
    if spec.get("checkpoint"):
        began = time.time()
        save(model, optimizer, spec["checkpoint"])
        print(json.dumps({"save_s": time.time() - began}))


main()
