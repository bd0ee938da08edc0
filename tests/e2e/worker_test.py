"""The worker as processes: several ranks, being killed and stopped, resuming, wrong input."""
import array
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
import unittest
import urllib.request

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness import ANNEAL, GOLDEN, ON_GPU, TWO_RANKS, Case, edits, free_port, kill_when, processes, read_safetensors, scalars, weights

TRAIN = GOLDEN / "train"


def train_command(case, model, *more, **config):
    return [ANNEAL, "train", "--pipeline_config_path", TRAIN / "deepfm_fused.config", "--model_dir", case.dir / model,
            "--train_input_path", TRAIN / "data/deepfm_train.parquet", "--eval_input_path", TRAIN / "data/deepfm_eval.parquet",
            "--edit_config_json", edits(train_config__use_tensorboard=True, **config), *more]


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Ranks(Case):
    def interleaved(self, ranks):
        """The golden rows in an order in which the ranks' parts make the same global batches as one rank."""
        table = pyarrow.parquet.read_table(TRAIN / "data/deepfm_train.parquet")
        size = 1024 // ranks
        order = [b * 1024 + part * size + i for part in range(ranks) for b in range(60) for i in range(size)]
        path = self.dir / "train.parquet"
        pyarrow.parquet.write_table(table.take(pyarrow.array(order)), path)
        return path

    def check(self, sharding, hosts=TWO_RANKS[0], per_host=TWO_RANKS[1]):
        ranks = hosts * per_host
        rows = self.interleaved(ranks)
        config = edits(**{"data_config.batch_size": 1024 // ranks, "train_config.use_tensorboard": True,
                          "train_config.global_embedding_constraints.sharding_types": [sharding]})
        text = self.launch(hosts, per_host, "train", "--pipeline_config_path",
                           TRAIN / "deepfm_fused.config", "--model_dir", self.dir / "two", "--train_input_path", rows,
                           "--eval_input_path", TRAIN / "data/deepfm_eval.parquet", "--fine_tune_checkpoint",
                           TRAIN / "deepfm_fused/weights_init.safetensors", "--edit_config_json", config)
        self.assertRegex(text, rf"cat_0_emb +\d+ x 16 +{sharding} +fused +[\d,-]+ +[\d.]+ MiB +[\d.]+ ms")
        self.assertIn(f"rank {ranks - 1}  ", text)
        plan = json.loads((self.dir / "two/model.ckpt-59/plan").read_text())["model.embedding_group.emb_impls.__BASE__.ebc"]
        self.assertEqual({entry["sharding_type"] for entry in plan.values()}, {sharding})
        golden = json.loads((TRAIN / "deepfm_fused/losses.json").read_text())
        seen = scalars(self.dir / "two")
        for step, losses in enumerate(golden):
            for name, want in losses.items():
                got = seen["loss/" + name, step]
                self.assertLessEqual(abs(got - want), (1e-5 if step < 10 else 1e-4) * abs(want), f"step {step}")
        # A checkpoint of two ranks loads in one, and of one in two.
        evaluate = ["eval", "--pipeline_config_path", TRAIN / "deepfm_fused.config", "--eval_input_path",
                    TRAIN / "data/deepfm_eval.parquet", "--checkpoint_path", self.dir / "two/model.ckpt-59",
                    "--edit_config_json", edits(model_dir=str(self.dir / "two"))]
        self.run_program(ANNEAL, *evaluate)
        self.launch(hosts, per_host, *evaluate)
        one, two = [json.loads(line) for line in (self.dir / "two/eval_result.txt").read_text().splitlines()]
        during = json.loads((self.dir / "two/train_eval_result_v2.txt").read_text())
        for key, value in during.items():
            self.assertAlmostEqual(one[key], value, delta=1e-6)
            self.assertAlmostEqual(two[key], value, delta=1e-6)
        self.run_program(*train_command(self, "two", "--continue_train", train_config__num_steps=62))
        self.assertTrue((self.dir / "two/model.ckpt-61/manifest.json").exists())

    def test_table_wise(self):
        self.check("table_wise")

    def test_row_wise(self):
        self.check("row_wise")

    def test_column_wise(self):
        self.check("column_wise")

    def test_grid_over_two_hosts(self):
        self.check("grid_shard", hosts=2)

    def test_accumulation_scaler_and_clipping(self):
        """Two ranks take the steps that one takes on the same global batches; the clipping bites and the scale grows."""
        steps = {"train_config.num_steps": 60, "train_config.gradient_accumulation_steps": 4, "train_config.grad_scaler.init_scale": 1024,
                 "train_config.grad_scaler.growth_interval": 3, "train_config.grad_clipping.clipping_type": "norm",
                 "train_config.grad_clipping.max_gradient": 0.05}
        free = {name: value for name, value in steps.items() if "clipping" not in name}
        for model, config in (("one", steps), ("unclipped", free)):
            self.run_program(*train_command(self, model, **config))
        rows = self.interleaved(2)
        for sharding in ("row_wise", "table_wise"):
            command = train_command(self, sharding, **{
                **steps, "data_config.batch_size": 512, "train_config.global_embedding_constraints.sharding_types": [sharding]})
            command[command.index("--train_input_path") + 1] = rows
            self.launch(*TWO_RANKS, *command[1:])
        seen = {model: scalars(self.dir / model) for model in ("one", "unclipped", "row_wise", "table_wise")}
        names = [key for key in seen["one"] if key[0].startswith("loss/")]
        self.assertEqual({step for _, step in names}, set(range(60)))
        for sharding in ("row_wise", "table_wise"):
            for name, step in names:
                want = seen["one"][name, step]
                self.assertLessEqual(abs(seen[sharding][name, step] - want), (1e-5 if step < 10 else 1e-4) * abs(want), f"{sharding}, step {step}")
            states = [json.loads((self.dir / model / "model.ckpt-59/train_state.json").read_text())["grad_scaler"] for model in ("one", sharding)]
            self.assertEqual(states[0], states[1])
            self.assertGreater(states[0]["scale"], 1024)
        self.assertGreater(max(abs(seen["one"][key] - seen["unclipped"][key]) / seen["one"][key] for key in names), 1e-3)

    def test_the_plan_command(self):
        config = TRAIN / "deepfm_fused.config"
        text = self.run_program(ANNEAL, "plan", "--pipeline_config_path", config, "--nnodes", 2, "--nproc-per-node", 4,
                                "--memory-gib", 8, "--output", self.dir / "plan.json")
        self.assertIn("rank 7 ", text)
        self.assertRegex(text, r"of 6\.\d\d GiB")
        judged = self.run_program(ANNEAL, "plan", "--pipeline_config_path", config, "--nnodes", 2, "--nproc-per-node", 4,
                                  "--memory-gib", 8, "--sharding_plan", self.dir / "plan.json")
        self.assertEqual(judged, text)
        constraint = {"feature_configs[id_feature.feature_name=cat_3].id_feature.embedding_constraints.sharding_types": ["row_wise"]}
        text = self.run_program(ANNEAL, "plan", "--pipeline_config_path", config, "--nproc-per-node", 2, "--edit_config_json",
                                json.dumps(constraint))
        self.assertRegex(text, r"cat_3_emb +1000 x 16 +row_wise +fused +0-1 ")
        self.assertRegex(text, r"cat_2_emb +1000 x 16 +table_wise +fused +[01] ")
        text = self.run_program(ANNEAL, "plan", "--pipeline_config_path", config, "--memory-gib", 0.01, expect=64)
        self.assertIn("No available sharding type and compute kernel combination: the tables do not fit into 1 ranks", text)
        text = self.run_program(ANNEAL, "plan", "--pipeline_config_path", config, expect=64, env={"INTRA_NODE_BANDWIDTH": "fast"})
        self.assertIn("INTRA_NODE_BANDWIDTH='fast'", text)

    def test_a_dead_peer_ends_all_ranks(self):
        command = [str(c) for c in [ANNEAL, "launch", "--nproc-per-node", "2", "--", *train_command(
            self, "m", train_config__num_steps=1000000)[1:]]]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
        marker = str(self.dir / "m")
        kill_when(lambda: len(list((self.dir / "m").glob("events*"))) > 0 and time.sleep(1) is None,
                  lambda: sorted(set(processes(marker)) - {run.pid})[-1:])
        output, _ = run.communicate(timeout=300)
        self.assertEqual(run.returncode, 137, output[-2000:])
        self.assertIn("failed with exit code 137", output)
        self.assertEqual(processes(marker), [])


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Resume(Case):
    def test_stopped_and_continued_is_bit_identical(self):
        self.run_program(*train_command(self, "whole", train_config__num_steps=40))
        self.run_program(*train_command(self, "parts", train_config__num_steps=17))
        self.run_program(*train_command(self, "parts", "--continue_train", train_config__num_steps=40))
        self.assertEqual(*(weights(self.dir / run / "model.ckpt-39") for run in ("parts", "whole")))

    def test_a_resumed_run_keeps_the_kernels_of_its_checkpoint(self):
        # The first part is told which to use, the second one nothing: what the checkpoint says counts.
        free = {"USE_DETERMINISTIC_ALGORITHMS": "0", "XDG_CACHE_HOME": str(self.dir / "cache")}
        for kernels in ("onednn", "blocked"):
            asked, whole, parts = {"ANNEAL_LINEAR": kernels}, f"whole-{kernels}", f"parts-{kernels}"
            self.run_program(*train_command(self, whole, train_config__num_steps=24), env=asked)
            self.run_program(*train_command(self, parts, train_config__num_steps=12), env=asked)
            self.run_program(*train_command(self, parts, "--continue_train", train_config__num_steps=24), env=free)
            self.assertEqual(*(weights(self.dir / run / "model.ckpt-23") for run in (parts, whole)))
        # A run that chooses by itself writes down what it chose, and its choice is kept for the next one.
        self.run_program(*train_command(self, "chosen", train_config__num_steps=3), env=free)
        chosen = json.loads((self.dir / "chosen/model.ckpt-2/train_state.json").read_text())["arithmetic"]
        self.assertRegex(chosen, r"^(\d+x\d+:[a-z]+,[a-z]+,[a-z]+ ?)+$")
        [cache] = (self.dir / "cache/anneal").iterdir()
        self.assertEqual(cache.read_text(), chosen)
        # Of what else is in there, layers of other models stay and go nowhere; a text that is none is replaced.
        for text, kept in ((chosen + " 7x7:stock,stock,stock", True), ("reference", False), (chosen + "x", False), ("", False)):
            cache.write_text(text)
            self.run_program(*train_command(self, "again", train_config__num_steps=3), env=free)
            again = json.loads((self.dir / "again/model.ckpt-2/train_state.json").read_text())["arithmetic"]
            self.assertEqual([layer.split(":")[0] for layer in again.split()], [layer.split(":")[0] for layer in chosen.split()])
            self.assertEqual(cache.read_text(), text if kept else again)
            if kept:
                self.assertEqual(again, chosen)
            shutil.rmtree(self.dir / "again")
        # Other kernels than the checkpoint's are told of.
        text = self.run_program(*train_command(self, "chosen", "--continue_train", train_config__num_steps=6), env=asked)
        self.assertRegex(text, r"asks for other kernels of linear layers \(blocked\) than \S*model.ckpt-2 was trained with")

    def read_metrics(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        self.assertRegex(text, r"(?m)^anneal_global_step \d+")
        self.assertRegex(text, r'(?m)^anneal_metric\{name="loss"\} 0\.\d+')
        return True

    def test_sigterm_writes_a_checkpoint_and_exits_143(self):
        note = self.dir / "note"
        port = free_port()
        command = [str(c) for c in train_command(self, "stopped", train_config__num_steps=1000000)]
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={
            **os.environ, "OMP_NUM_THREADS": "1", "ANNEAL_TERMINATION_MESSAGE_PATH": str(note), "ANNEAL_PROGRESS_PORT": str(port)})

        def moved():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5) as reply:
                    self.progress = json.load(reply)
                return self.progress["globalStep"] > 20
            except OSError:
                return False

        kill_when(lambda: moved() and self.read_metrics(port), lambda: [run.pid], signal.SIGTERM)
        self.assertEqual(self.progress["phase"], "train")
        self.assertEqual(self.progress["totalSteps"], 1000000)
        self.assertIn("binary_cross_entropy", self.progress["metrics"])
        self.assertEqual(run.wait(timeout=300), 143)
        message = json.loads(note.read_text())
        self.assertEqual(message["reason"], "Terminated")
        self.assertTrue((self.dir / f"stopped/model.ckpt-{message['checkpoint']['step']}/manifest.json").exists())

    def test_a_used_model_dir_needs_continue_train(self):
        self.run_program(*train_command(self, "m", train_config__num_steps=2))
        self.assertIn("--continue_train", self.run_program(*train_command(self, "m", train_config__num_steps=4), expect=64))


def floats(raw):
    numbers = array.array("f")
    numbers.frombytes(raw)
    return numbers


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Zoo(Case):
    """TorchEasyRec's small runs, one per training option: losses, final weights, evaluation."""

    def check(self, case, tolerance=1e-5, weight_tolerance=1e-5, metric_tolerance=1e-6, plan=()):
        golden = GOLDEN / "zoo" / case
        self.run_program(ANNEAL, "train", "--pipeline_config_path", golden / "pipeline.config", "--model_dir", self.dir / "m",
                         "--fine_tune_checkpoint", golden / "weights_init.safetensors", *plan, "--edit_config_json",
                         edits(train_config__use_tensorboard=True,
                               train_config__tensorboard_summaries=["global_gradient_norm"]), cwd=GOLDEN / "zoo")
        seen = scalars(self.dir / "m")
        losses = json.loads((golden / "losses.json").read_text())
        steps = json.loads((golden / "steps.json").read_text())
        for step, entry in enumerate(losses):
            for name, want in entry.items():
                self.assertLessEqual(abs(seen["loss/" + name, step] - want), tolerance * abs(want), f"step {step}")
            # Every parameter group's learning rate, and the gradient left after clipping.
            for group, want in enumerate(steps[step]["lr"]):
                self.assertAlmostEqual(seen[f"lr/g{group}", step], want, delta=1e-8)
            self.assertNotIn((f"lr/g{len(steps[step]['lr'])}", step), seen)
            norm = steps[step]["dense_grad_norm_after_step"]
            self.assertLessEqual(abs(seen["global_gradient_norm", step] - norm), 10 * tolerance * norm, f"step {step}")
        want = read_safetensors(golden / "weights_end.safetensors")
        got = weights(self.dir / f"m/model.ckpt-{len(losses) - 1}")
        self.assertEqual(sorted(got), sorted(want))
        for name, raw in want.items():
            worst = max(abs(a - b) for a, b in zip(floats(raw), floats(got[name])))
            self.assertLessEqual(worst, weight_tolerance, name)
        result = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text().splitlines()[-1])
        for name, value in json.loads((golden / "eval_result.json").read_text()).items():
            self.assertAlmostEqual(result[name], value, delta=metric_tolerance)

    def test_opt_bf16(self):
        # The suggested tolerance; rounding to 8 bits of mantissa makes any other order of additions visible.
        self.check("opt_bf16", tolerance=2e-2, weight_tolerance=2e-2, metric_tolerance=2e-2)

    def test_opt_planner_default(self):
        # Which tables the reference's planner gave to the dense optimizer shows in its state.
        tables = {}
        for name in read_safetensors(GOLDEN / "zoo/opt_planner_default/optimizer_end.safetensors"):
            parts = name.split("//")[0].split(".")
            if "embedding_bags" in parts:
                table = parts[parts.index("embedding_bags") + 1]
                dense = name.endswith("exp_avg")
                if dense or table not in tables:
                    tables[table] = {"sharding_type": "data_parallel" if dense else "table_wise",
                                     "compute_kernel": "dense" if dense else "fused", "ranks": [0]}
        self.assertEqual(sum(t["compute_kernel"] == "fused" for t in tables.values()), 2)
        (self.dir / "plan.json").write_text(json.dumps({"model.embedding_group.emb_impls.__BASE__.ebc": tables}))
        self.check("opt_planner_default", plan=("--sharding_plan", self.dir / "plan.json"))
        # Stopped and continued without the plan file: the checkpoint's plan keeps those tables with that optimizer.
        golden = GOLDEN / "zoo/opt_planner_default"
        command = [ANNEAL, "train", "--pipeline_config_path", golden / "pipeline.config", "--model_dir", self.dir / "parts"]
        self.run_program(*command, "--fine_tune_checkpoint", golden / "weights_init.safetensors", "--sharding_plan",
                         self.dir / "plan.json", "--edit_config_json", edits(train_config__num_steps=7), cwd=GOLDEN / "zoo")
        self.run_program(*command, "--continue_train", cwd=GOLDEN / "zoo")
        parts, whole = (weights(self.dir / model / "model.ckpt-19") for model in ("parts", "m"))
        self.assertEqual(parts.keys(), whole.keys())
        for name, raw in whole.items():
            if ON_GPU:  # sums have no fixed order there
                self.assertLessEqual(max(abs(a - b) for a, b in zip(floats(raw), floats(parts[name]))), 1e-5, name)
            else:
                self.assertEqual(raw, parts[name], name)

    def test_resume20(self):
        golden = GOLDEN / "zoo/resume20"
        command = [ANNEAL, "train", "--pipeline_config_path", golden / "pipeline.config", "--model_dir", self.dir / "m"]
        self.run_program(*command, "--fine_tune_checkpoint", golden / "weights_init.safetensors", "--edit_config_json",
                         edits(train_config__num_steps=10), cwd=GOLDEN / "zoo")
        self.run_program(*command, "--continue_train", cwd=GOLDEN / "zoo")
        for part, step in (("part1_10steps", 9), ("part2_resumed", 19)):
            got = weights(self.dir / f"m/model.ckpt-{step}")
            for name, raw in read_safetensors(golden / part / "weights_end.safetensors").items():
                worst = max(abs(a - b) for a, b in zip(floats(raw), floats(got[name])))
                self.assertLessEqual(worst, 1e-5, name)


def add_zoo_tests():
    for case in ("deepfm", "opt_adamw", "opt_dense_sgd", "opt_dense_adagrad", "opt_sparse_rowwise", "opt_partial_batch",
                 "opt_exp_warmup_staircase", "opt_manual_step", "opt_cosine", "opt_by_epoch", "opt_clip_norm", "opt_ga4", "opt_part",
                 "opt_dense_rmsprop", "opt_ema", "mmoe"):
        setattr(Zoo, "test_" + case, lambda self, case=case: self.check(case))


add_zoo_tests()


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Options(Case):
    """Training options that leave files, and the state that they carry over a kill."""

    def zoo(self, model, *more, **config):
        golden = GOLDEN / "zoo/deepfm"
        return [ANNEAL, "train", "--pipeline_config_path", golden / "pipeline.config", "--model_dir", self.dir / model,
                "--train_input_path", GOLDEN / "zoo/data/rank_train.parquet", "--eval_input_path",
                GOLDEN / "zoo/data/rank_eval.parquet", "--edit_config_json", edits(**config), *more]

    def events(self, folder):
        """(tag, step) -> Summary.Value, read by the tensorboard package"""
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
        found = {}
        for path in folder.glob("events.out.tfevents.*"):
            for raw in RawEventFileLoader(str(path)).Load():
                event = Event.FromString(raw)
                for value in event.summary.value:
                    found[value.tag, event.step] = value
        return found

    def test_the_six_summaries_as_tensorboard_reads_them(self):
        import numpy
        kinds = ["loss", "learning_rate", "parameter", "global_gradient_norm", "gradient_norm", "gradient"]
        self.run_program(*self.zoo("m", train_config__num_steps=3, train_config__use_tensorboard=True,
                                   train_config__tensorboard_summaries=kinds))
        found = self.events(self.dir / "m")
        for tag in ("loss/binary_cross_entropy", "loss/total", "lr/g0", "lr/g1", "global_gradient_norm"):
            for step in range(3):
                self.assertEqual(found[tag, step].WhichOneof("value"), "simple_value")
        after = {name: numpy.frombuffer(raw, numpy.float32) for name, raw in weights(self.dir / "m/model.ckpt-2").items()}
        edges = [1e-12]
        while edges[-1] * 1.1 < 1e20:
            edges.append(edges[-1] * 1.1)
        edges = [-edge for edge in reversed(edges)] + [0.0] + edges
        squares = 0.0
        for name, values in after.items():
            table = "embedding_bags" in name
            histogram = found[name + "/rank:0" if table else name, 2].histo
            self.assertEqual(histogram.num, values.size)
            self.assertAlmostEqual(histogram.min, values.min())
            self.assertAlmostEqual(histogram.max, values.max())
            self.assertAlmostEqual(histogram.sum, values.astype(float).sum(), places=6)
            self.assertAlmostEqual(histogram.sum_squares, (values.astype(float) ** 2).sum(), places=6)
            counts, _ = numpy.histogram(values.astype(float), bins=edges)
            self.assertEqual([count for count in histogram.bucket if count], [count for count in counts if count], name)
            self.assertEqual(len(histogram.bucket), len(histogram.bucket_limit))
            self.assertEqual((name + "/gradient_norm", 2) in found, not table)
            if not table:
                gradient = found[name + "/gradient", 2].histo
                norm = found[name + "/gradient_norm", 2].simple_value
                self.assertAlmostEqual(norm, gradient.sum_squares ** 0.5, delta=1e-6 + 1e-5 * norm)
                squares += norm ** 2
        whole = found["global_gradient_norm", 2].simple_value
        self.assertAlmostEqual(whole, squares ** 0.5, delta=1e-5 * whole)
        self.assertIn(("metric/auc", 2), self.events(self.dir / "m/eval_val"))

    def test_a_profiler_trace_of_ten_steps(self):
        self.run_program(*self.zoo("m", train_config__num_steps=15, train_config__is_profiling=True))
        trace, = (self.dir / "m/train_eval_trace").glob("*.pt.trace.json")
        events = json.loads(trace.read_text())["traceEvents"]
        names = [event.get("name", "") for event in events if event.get("ph") == "X"]
        steps = sorted({int(name.split("#")[1]) for name in names if name.startswith("ProfilerStep#")})
        self.assertEqual(steps, list(range(2, 12)))
        self.assertIn("aten::linear", names)
        self.assertTrue(any("Input Dims" in event.get("args", {}) for event in events))

    def test_fine_tune_parameter_map(self):
        init = GOLDEN / "zoo/deepfm/weights_init.safetensors"
        name, old = "model.output_mlp.weight", "model.output_old.weight"
        raw = init.read_bytes()
        self.assertEqual(raw.count(name.encode()), 1)
        (self.dir / "old.safetensors").write_bytes(raw.replace(name.encode(), old.encode()))
        (self.dir / "map").write_text(f"{name} {old}\n")
        (self.dir / "bad").write_text(f"{name} {old}\n{name}\n")
        self.run_program(*self.zoo("plain", "--fine_tune_checkpoint", init, train_config__num_steps=3))
        renamed = ("--fine_tune_checkpoint", self.dir / "old.safetensors")
        text = self.run_program(*self.zoo("mapped", *renamed, train_config__num_steps=3,
                                          train_config__fine_tune_ckpt_param_map=str(self.dir / "map")))
        self.assertIn(f"Remap restore state [{name}] from [{old}]", text)
        self.assertNotIn("Skip restore state", text)
        self.assertEqual(weights(self.dir / "mapped/model.ckpt-2"), weights(self.dir / "plain/model.ckpt-2"))
        text = self.run_program(*self.zoo("unmapped", *renamed, train_config__num_steps=3))
        self.assertIn(f"Skip restore state [{name}]", text)
        text = self.run_program(*self.zoo("bad_map", *renamed, train_config__fine_tune_ckpt_param_map=str(self.dir / "bad")),
                                expect=64)
        self.assertIn(f"{self.dir}/bad:2: needs two names", text)

    def test_ignore_restore_optimizer(self):
        for model, flags in (("with", ()), ("without", ("--ignore_restore_optimizer",))):
            self.run_program(*self.zoo(model, train_config__num_steps=5))
            text = self.run_program(*self.zoo(model, "--continue_train", *flags, train_config__num_steps=10))
            self.assertEqual("Restoring optimizer state" in text, model == "with")
            self.assertIn("Restoring model state", text)
        self.assertNotEqual(weights(self.dir / "with/model.ckpt-9"), weights(self.dir / "without/model.ckpt-9"))

    def test_checkpoints_by_step_and_by_epoch(self):
        text = self.run_program(*self.zoo("steps", train_config__num_steps=20, train_config__save_checkpoints_steps=5,
                                          train_config__keep_checkpoint_max=2))
        self.assertEqual(sorted(p.name for p in (self.dir / "steps").glob("model.ckpt-*")), ["model.ckpt-15", "model.ckpt-19"])
        self.assertEqual(text.count("Removing old checkpoint "), 2)
        for step in (5, 10, 15, 19):
            self.assertIn(f"Saving checkpoint to {self.dir}/steps/model.ckpt-{step}...", text)
            self.assertRegex(text, rf"Eval Result Epoch-0 model-{step}: auc:0\.\d{{6}} binary_cross_entropy:0\.\d{{6}}")
        lines = (self.dir / "steps/train_eval_result_v2.txt").read_text().splitlines()
        self.assertEqual([list(json.loads(line)) for line in lines], [["global_step", "auc", "binary_cross_entropy"]] * 4)
        self.run_program(*self.zoo("epochs", train_config__num_steps=0, train_config__num_epochs=3,
                                   train_config__save_checkpoints_steps=7, train_config__save_checkpoints_epochs=2))
        self.assertEqual(sorted(p.name for p in (self.dir / "epochs").glob("model.ckpt-*")), ["model.ckpt-39", "model.ckpt-59"])
        for step, passes in ((39, 2), (59, 3)):
            state = json.loads((self.dir / f"epochs/model.ckpt-{step}/dataloader_state.json").read_text())
            self.assertEqual(state["__epochs_completed__"], passes)

    def test_fp16_overflows_and_recovers(self):
        """Float16 ends at 65504: a scale that is too large costs steps, of tables too, until it is halved often enough."""
        def train(model, scale, kind):
            self.run_program(*self.zoo(model, train_config__num_steps=20, train_config__mixed_precision=kind, train_config__use_tensorboard=True,
                                       train_config__log_step_count_steps=1, eval_input_path="", train_config__grad_scaler__init_scale=scale))
            state = json.loads((self.dir / f"{model}/model.ckpt-19/train_state.json").read_text())["grad_scaler"]
            seen = scalars(self.dir / model)
            return state, [seen["loss/binary_cross_entropy", step] for step in range(20)]

        whole, exact = train("fp32", 1024, "")
        state, losses = train("fp16", 1024, "FP16")
        self.assertEqual((whole["scale"], state), (1024, whole))
        self.assertNotEqual(losses, exact)
        for step in range(20):
            self.assertAlmostEqual(losses[step], exact[step], delta=2e-3)
        state, late = train("high", 2.0 ** 30, "FP16")
        halved = round(30 - math.log2(state["scale"]))
        self.assertTrue(3 < halved < 20, state)
        self.assertEqual(state["growth_tracker"], 20 - halved)
        # Nothing was learnt meanwhile, of the tables until their own gradients were finite.
        _, never = train("never", 2.0 ** 60, "FP16")
        learnt = next(step for step in range(20) if late[step] != never[step])
        self.assertTrue(3 < learnt <= halved + 1, (learnt, halved))
        self.assertEqual(train("high bf16", 2.0 ** 30, "BF16")[0]["scale"], 2.0 ** 30)  # as wide as float32

    def test_checkpoints_by_event_time(self):
        table = pyarrow.parquet.read_table(GOLDEN / "zoo/data/rank_train.parquet")
        times = [None if row % 97 == 5 else 1_700_000_000 + 40 * row // 256 - row % 7 for row in range(table.num_rows)]  # not in order inside a batch
        dated = table.append_column("__data_timestamp__", pyarrow.array(times, pyarrow.int64()))
        pyarrow.parquet.write_table(dated, self.dir / "dated.parquet")
        interval, target = 150, 1_700_000_330

        def due(ranks, steps, quorum=0.5):
            """the steps at which the ranks' newest events have passed a boundary since the save before"""
            share, size, saved, reference = len(times) // ranks, 256 // ranks, [], None
            for step in range(steps):
                newest = sorted(max(filter(None, times[r * share + step * size:r * share + (step + 1) * size])) for r in range(ranks))
                now = newest[ranks - math.ceil(quorum * ranks)]
                if reference is None:
                    reference = now
                if now // interval > reference // interval or reference < target <= now:
                    saved.append(step)
                    reference = now
            return sorted({*saved, steps - 1})

        def saved(model):
            return sorted(int(path.name.rsplit("-")[-1]) for path in (self.dir / model).glob("model.ckpt-*"))

        config = {"train_config__save_checkpoints_steps": 0, "train_config__save_checkpoints_timestamp_interval": interval,
                  "train_config__save_checkpoints_timestamps": [target], "eval_input_path": ""}
        rows = ("--train_input_path", self.dir / "dated.parquet")
        self.run_program(*self.zoo("m", *rows, train_config__num_steps=20, **config))
        want = due(1, 20)
        self.assertGreater(len(want), 5)
        self.assertEqual(saved("m"), want)
        state = json.loads((self.dir / f"m/model.ckpt-{want[2]}/dataloader_state.json").read_text())
        self.assertEqual(state["__data_ts_watermark__"], max(filter(None, times[want[2] * 256:(want[2] + 1) * 256])))
        # Killed after the third and continued: the same ones come.
        for step in want[3:]:
            shutil.rmtree(self.dir / f"m/model.ckpt-{step}")
        self.run_program(*self.zoo("m", *rows, "--continue_train", train_config__num_steps=20, **config))
        self.assertEqual(saved("m"), want)
        # One whose evaluation was cut off is evaluated first.
        rest = {**config, "eval_input_path": str(GOLDEN / "zoo/data/rank_eval.parquet")}
        self.run_program(*self.zoo("judged", *rows, train_config__num_steps=20, **rest))
        results = self.dir / "judged/train_eval_result_v2.txt"
        whole = results.read_text()
        self.assertEqual([json.loads(line)["global_step"] for line in whole.splitlines()], want)
        results.write_text("".join(whole.splitlines(True)[:2]))
        for step in want[3:]:
            shutil.rmtree(self.dir / f"judged/model.ckpt-{step}")
        text = self.run_program(*self.zoo("judged", *rows, "--continue_train", train_config__num_steps=20, **rest))
        self.assertIn(f"Evaluating checkpoint of step {want[2]}, which has no result yet", text)
        self.assertEqual(results.read_text(), whole)
        for quorum in (0.5, 1.0):
            run = self.zoo(f"two-{quorum}", *rows, train_config__num_steps=20, data_config__batch_size=128,
                           train_config__save_checkpoints_timestamp_quorum=quorum, **config)
            self.run_program(ANNEAL, "launch", "--nproc-per-node", 2, "--", *run[1:])
            self.assertEqual(saved(f"two-{quorum}"), due(2, 20, quorum))
        table = pyarrow.parquet.read_table(self.dir / "dated.parquet")
        index = table.schema.get_field_index("__data_timestamp__")
        column = pyarrow.compute.multiply(table.column(index), 1000)
        pyarrow.parquet.write_table(table.set_column(index, "__data_timestamp__", column), self.dir / "milliseconds.parquet")
        text = self.run_program(*self.zoo("ms", "--train_input_path", self.dir / "milliseconds.parquet", train_config__num_steps=3, **config))
        self.assertEqual(text.count("which is no Unix time in seconds (milliseconds?)"), 1)
        text = self.run_program(*self.zoo("none", train_config__num_steps=20, **config))
        self.assertIn("the first file of train_input_path has no column __data_timestamp__", text)
        self.assertEqual(saved("none"), [19])

    def test_training_that_learns_nothing_is_told(self):
        rates = {"train_config.dense_optimizer.adam_optimizer.lr": 1e30, "train_config.sparse_optimizer.adagrad_optimizer.lr": 1e30}
        text = self.run_program(*self.zoo("m", train_config__num_steps=5, train_config__log_step_count_steps=1, **rates))
        self.assertEqual(len(re.findall(r"the loss of step [1-4] is not finite", text)), 1)
        text = self.run_program(*self.zoo("n", train_config__num_steps=3, train_config__gradient_accumulation_steps=4))
        self.assertIn("train_config.gradient_accumulation_steps: 4 are more than num_steps, 3: no dense parameter is trained", text)

    def test_the_last_checkpoint_is_uploaded(self):
        message = self.dir / "message.json"
        command = self.zoo("m", "--continue_train", "--upload_uri", f"file://{self.dir}/shelf", train_config__num_steps=3)
        for _ in range(2):  # a run that has no step left uploads, too
            self.run_program(*command, env={"ANNEAL_TERMINATION_MESSAGE_PATH": str(message)})
            latest = json.loads((self.dir / "shelf/latest").read_text())
            version = self.dir / "shelf" / latest["path"]
            artifact = json.loads(message.read_text())["artifact"]
            self.assertEqual((artifact["uri"], artifact["sha256"]), (f"file://{version}", latest["sha256"]))
            files = {file["path"] for file in json.loads((version / "MANIFEST.json").read_text())["files"]}
            self.assertEqual(files, {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()} - {"MANIFEST.json"})
            self.assertEqual(weights(version / "model.ckpt-2"), weights(self.dir / "m/model.ckpt-2"))
        # It is a model_dir: a run can start from it.
        self.run_program(*self.zoo("next", "--fine_tune_checkpoint", version, train_config__num_steps=1))
        self.run_program(*self.zoo("refused", "--upload_uri", "ftp://x"), expect=64)

    def test_the_best_checkpoint_stays_and_is_reported(self):
        found = []
        for model, larger in (("least", False), ("most", True)):
            message = self.dir / f"{model}.json"
            settings = {"export_config__exporter_type": "best", "export_config__best_exporter_metric": "binary_cross_entropy",
                        "export_config__metric_larger_is_better": larger}
            self.run_program(*self.zoo(model, train_config__num_steps=20, train_config__save_checkpoints_steps=5,
                                       train_config__keep_checkpoint_max=1, **settings), env={"ANNEAL_TERMINATION_MESSAGE_PATH": str(message)})
            results = [json.loads(line) for line in (self.dir / model / "train_eval_result_v2.txt").read_text().splitlines()]

            def best_of(lines):
                return (max if larger else min)(lines, key=lambda result: result["binary_cross_entropy"])

            best, step = best_of(results), best_of(results)["global_step"]
            found.append(step)
            kept = {path.name for path in (self.dir / model).glob("model.ckpt-*")}
            self.assertLessEqual({"model.ckpt-19", f"model.ckpt-{step}"}, kept)
            # Old ones go when one is saved, which may be before that one is evaluated.
            self.assertLessEqual(kept, {"model.ckpt-19", f"model.ckpt-{step}", f"model.ckpt-{best_of(results[:-1])['global_step']}"})
            self.assertEqual(json.loads(message.read_text())["bestCheckpoint"],
                             {"step": step, "metric": "binary_cross_entropy", "value": best["binary_cross_entropy"]})
            # What `anneal export` takes without --checkpoint_path.
            text = self.run_program(ANNEAL, "export", "--pipeline_config_path", self.dir / model / "pipeline.config", "--export_dir",
                                    self.dir / f"exported_{model}", "--verify_input_path", GOLDEN / "zoo/data/rank_eval.parquet")
            self.assertIn(f"Exporting step {step} to", text)
        self.assertNotEqual(*found)

    def test_the_progress_line_names_every_learning_rate(self):
        command = [c if c != GOLDEN / "zoo/deepfm/pipeline.config" else GOLDEN / "zoo/opt_part/pipeline.config"
                   for c in self.zoo("m", train_config__num_steps=3000)]
        text = self.run_program(*command)
        self.assertRegex(text, r"Training Epoch 0: \d+it \[\d+\.\d\dit/s\] lr_g0:0\.01000 lr_g1:0\.00100 lr_g2:\d\.\d{5} "
                               r"lr_g3:0\.05000 binary_cross_entropy:\d\.\d{5} total_loss: \d\.\d{5}")
        self.assertRegex(text, r"part_optim_params0:\['model\.final_mlp")
        self.assertIn("remaining_params:[", text)

@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class WrongInput(Case):
    def test_exit_codes_and_messages(self):
        (self.dir / "bad.config").write_text("train_config {\n  num_stepz: 3\n}\n")
        text = self.run_program(ANNEAL, "check", self.dir / "bad.config", expect=64)
        self.assertIn("bad.config:2:3: train_config.num_stepz: TrainConfig has no field 'num_stepz' (did you mean 'num_steps'?)", text)
        self.run_program(ANNEAL, "train", "--pipeline_config_path", self.dir / "bad.config", expect=64)
        self.run_program(ANNEAL, "train", "--pipeline_config_path", self.dir / "missing.config", expect=64)
        self.run_program(ANNEAL, "nonsense", expect=64)
        text = self.run_program(*train_command(self, "m", "--train_input_path", self.dir / "none*.parquet"), expect=64)
        self.assertIn("none*.parquet", text)
        table = pyarrow.parquet.read_table(TRAIN / "data/deepfm_train.parquet").drop_columns(["cat_3"])
        pyarrow.parquet.write_table(table, self.dir / "short.parquet")
        text = self.run_program(*train_command(self, "m", "--train_input_path", self.dir / "short.parquet"), expect=78)
        self.assertIn("cat_3", text)
        self.assertIn("short.parquet", text)
        (self.dir / "broken.parquet").write_bytes(b"PAR1 this is none")
        self.run_program(*train_command(self, "m", "--train_input_path", self.dir / "broken.parquet"), expect=78)

    def test_unknown_arguments_are_named_and_ignored(self):
        text = self.run_program(*train_command(self, "m", "--not_a_flag", train_config__num_steps=1))
        self.assertIn("--not_a_flag", text)


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Predict(Case):
    def test_export_and_checkpoint_predict_what_eval_sees(self):
        self.run_program(*train_command(self, "m", train_config__num_steps=10))
        common = ["--pipeline_config_path", TRAIN / "deepfm_fused.config", "--edit_config_json", edits(model_dir=str(self.dir / "m"))]
        self.run_program(ANNEAL, "export", *common, "--quantization", "FP32", "--export_dir", self.dir / "x", "--verify_input_path", TRAIN / "data/deepfm_eval.parquet")
        rows = ["--predict_input_path", TRAIN / "data/deepfm_eval.parquet", "--reserved_columns", "label"]
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "x", *rows, "--predict_output_path", self.dir / "p1")
        self.run_program(ANNEAL, "predict", *common, *rows, "--predict_output_path", self.dir / "p2", "--batch_size", "1000")
        one, two = (pyarrow.parquet.read_table(self.dir / p / "part-0.parquet").to_pydict() for p in ("p1", "p2"))
        self.assertEqual(len(one["probs"]), 8192)
        self.assertEqual(one["label"], two["label"])
        self.assertLessEqual(max(abs(a - b) for a, b in zip(one["probs"], two["probs"])), 1e-6)
        # The evaluation's own loss, from the predictions.
        loss = -sum(math.log(p if y else 1 - p) for p, y in zip(one["probs"], one["label"])) / len(one["probs"])
        seen = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text())["binary_cross_entropy"]
        self.assertAlmostEqual(loss, seen, delta=2e-6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
