"""Training options that leave files, and the state that they carry over a kill."""
import json
import math
import re
import shutil
import unittest

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness import ANNEAL, GOLDEN, Case, edits, scalars, weights


@unittest.skipUnless((GOLDEN / "train").exists(), "the golden files are not on this machine")
class Options(Case):
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
