"""The worker as processes: several ranks, being killed and stopped, resuming, wrong input."""
import array
import json
import math
import os
import shutil
import signal
import subprocess
import time
import unittest
import urllib.request

import pyarrow
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

    def check(self, sharding, hosts=TWO_RANKS[0], per_host=TWO_RANKS[1], env=None):
        ranks = hosts * per_host
        rows = self.interleaved(ranks)
        config = edits(**{"data_config.batch_size": 1024 // ranks, "train_config.use_tensorboard": True,
                          "train_config.global_embedding_constraints.sharding_types": [sharding]})
        text = self.launch(hosts, per_host, "train", "--pipeline_config_path",
                           TRAIN / "deepfm_fused.config", "--model_dir", self.dir / "two", "--train_input_path", rows,
                           "--eval_input_path", TRAIN / "data/deepfm_eval.parquet", "--fine_tune_checkpoint",
                           TRAIN / "deepfm_fused/weights_init.safetensors", "--edit_config_json", config, env=env)
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

    def test_ids_that_are_in_many_rows_are_computed_once(self):
        """The golden rows have 1,000 ids a feature, or fewer: most are in a batch several times."""
        for kernels, clamp in (("stock", False), ("onednn", False), ("blocked", False), ("repeated", False), ("stock", True), ("repeated", True)):
            command = train_command(self, f"{kernels}-{clamp}", "--fine_tune_checkpoint", TRAIN / "deepfm_fused/weights_init.safetensors", **{
                "train_config.sparse_optimizer.adagrad_optimizer.gradient_clipping": clamp,
                "train_config.sparse_optimizer.adagrad_optimizer.max_gradient": 2e-5})
            self.run_program(*command, env={"ANNEAL_LINEAR": kernels})
        golden = json.loads((TRAIN / "deepfm_fused/losses.json").read_text())
        [name] = golden[0]
        seen = {path.name: scalars(path) for path in self.dir.iterdir()}
        for step, losses in enumerate(golden):
            for kernels in ("stock", "repeated"):
                bound = 1e-5 if step < 10 else 1e-4
                self.assertLessEqual(abs(seen[f"{kernels}-False"]["loss/" + name, step] / losses[name] - 1), bound, f"step {step}")
            clamped = [seen[f"{kernels}-True"]["loss/" + name, step] for kernels in ("stock", "repeated")]
            self.assertLessEqual(abs(clamped[1] / clamped[0] - 1), bound, f"step {step}")
        self.assertGreater(abs(clamped[0] / golden[-1][name] - 1), 1e-3)  # the clamp matters
        # The weights are no further away than another library's rounding puts them.
        models = {kernels: {name: array.array("f", raw) for name, raw in weights(self.dir / f"{kernels}-False/model.ckpt-59").items()}
                  for kernels in ("stock", "onednn", "blocked", "repeated")}
        self.assertNotEqual(models["repeated"], models["blocked"])  # it was not just the other kernels
        onednn, repeated = (sorted(abs(a - b) for name, values in models["stock"].items() for a, b in zip(models[kernels][name], values))
                            for kernels in ("onednn", "repeated"))
        self.assertLessEqual(repeated[-1], 2 * onednn[-1])
        self.assertLessEqual(repeated[len(repeated) * 999 // 1000], 2 * onednn[len(onednn) * 999 // 1000])
        results = [json.loads((self.dir / model / "train_eval_result_v2.txt").read_text()) for model in ("stock-False", "repeated-False")]
        for key, value in results[0].items():
            self.assertAlmostEqual(results[1][key], value, delta=1e-4)

    def test_table_wise(self):
        self.check("table_wise")

    def test_row_wise(self):
        self.check("row_wise")

    def test_column_wise(self):
        self.check("column_wise")

    def test_row_wise_with_ids_of_many_rows_computed_once(self):
        self.check("row_wise", env={"ANNEAL_LINEAR": "repeated"})

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
        for kernels in ("onednn", "repeated", "blocked"):
            asked, whole, parts = {"ANNEAL_LINEAR": kernels}, f"whole-{kernels}", f"parts-{kernels}"
            self.run_program(*train_command(self, whole, train_config__num_steps=24), env=asked)
            self.run_program(*train_command(self, parts, train_config__num_steps=12), env=asked)
            self.run_program(*train_command(self, parts, "--continue_train", train_config__num_steps=24), env=free)
            self.assertEqual(*(weights(self.dir / run / "model.ckpt-23") for run in (parts, whole)))
        # A run that chooses by itself writes down what it chose, and its choice is kept for the next one.
        self.run_program(*train_command(self, "chosen", train_config__num_steps=3), env=free)
        chosen = json.loads((self.dir / "chosen/model.ckpt-2/train_state.json").read_text())["arithmetic"]
        self.assertRegex(chosen, r"^sum:\d+(\.\d)?( \d+x\d+:[a-z]+,[a-z]+,[a-z]+)+$")
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

    def check(self, case, tolerance=1e-5, weight_tolerance=1e-5, metric_tolerance=1e-6, plan=(), model_dir="m", first_steps=None):
        """All of a run, or its first steps: then the losses and gradients alone, and which weights there are."""
        golden, model = GOLDEN / "zoo" / case, self.dir / model_dir
        shorter = {} if first_steps is None else {"train_config.num_steps": first_steps}
        self.run_program(ANNEAL, "train", "--pipeline_config_path", golden / "pipeline.config", "--model_dir", model,
                         "--fine_tune_checkpoint", golden / "weights_init.safetensors", *plan, "--edit_config_json",
                         edits(train_config__use_tensorboard=True,
                               train_config__tensorboard_summaries=["global_gradient_norm"], **shorter), cwd=GOLDEN / "zoo")
        seen = scalars(model)
        losses = json.loads((golden / "losses.json").read_text())[:first_steps]
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
        got = weights(model / f"model.ckpt-{len(losses) - 1}")
        self.assertEqual(sorted(got), sorted(want))
        if first_steps is not None:
            return
        for name, raw in want.items():
            if len(raw) % 4:  # no floats
                self.assertEqual(raw, got[name], name)
                continue
            worst = max(abs(a - b) for a, b in zip(floats(raw), floats(got[name])))
            self.assertLessEqual(worst, weight_tolerance, name)
        result = json.loads((model / "train_eval_result_v2.txt").read_text().splitlines()[-1])
        for name, value in json.loads((golden / "eval_result.json").read_text()).items():
            # Of 256 items of a batch many are the same one: whether a row's own counts as before its equals is rounding.
            tied = name.startswith("recall@") and case in ("dssm", "mind")
            sampled = name.endswith("xauc")  # of pairs of rows
            if math.isnan(value):
                self.assertTrue(math.isnan(result[name]), name)
            else:
                self.assertAlmostEqual(result[name], value, delta=5e-3 if sampled else 3e-3 if tied else metric_tolerance, msg=name)
        self.assertEqual(sorted(result), sorted(json.loads((golden / "eval_result.json").read_text())))

    def plan_of(self, case):
        """Writes plan.json: which tables the reference gave to the dense optimizer shows in its state."""
        plan = {}
        for name in read_safetensors(GOLDEN / "zoo" / case / "optimizer_end.safetensors"):
            parts = name.split("//")[0].split(".")
            tables = next((parts.index(kind) for kind in ("embedding_bags", "embeddings") if kind in parts), None)
            if tables is None:
                continue
            entries, table = plan.setdefault(".".join(parts[:tables]), {}), parts[tables + 1]
            dense = name.endswith("exp_avg")
            if dense or table not in entries:
                entries[table] = {"sharding_type": "data_parallel" if dense else "table_wise",
                                  "compute_kernel": "dense" if dense else "fused", "ranks": [0]}
        (self.dir / "plan.json").write_text(json.dumps(plan))
        return plan

    def test_sequences(self):
        # On a CPU the reference trains sequence tables with the dense optimizer.
        for case in ("multi_tower_din", "dbmtl_seq", "dbmtl_seq_selfattn", "mind", "tdm"):
            with self.subTest(case):
                plan = self.plan_of(case)
                module = "model.user_tower.embedding_group" if case == "mind" else "model.embedding_group"
                ec = plan[module + ".seq_emb_impls.__BASE__.ec_dict.8"]
                self.assertEqual({t["compute_kernel"] for t in ec.values()}, {"dense"})
                # The bias of a DIN's scores has no gradient, softmax does not see it: Adam moves it by rounding errors.
                self.check(case, weight_tolerance=1e-5 if case == "dbmtl_seq_selfattn" else 1e-4, model_dir=case,
                           plan=("--sharding_plan", self.dir / "plan.json"))

    def test_dlrm_hstu(self):
        plan = self.plan_of("dlrm_hstu")
        self.assertEqual(len(plan), 2)
        self.check("dlrm_hstu", weight_tolerance=1e-4, plan=("--sharding_plan", self.dir / "plan.json"))

    def test_predictions_before_the_first_step(self):
        for case, data, batch in (("tdm", "seq", 256), ("rocket_launching", "rank", 256), ("dlrm_hstu", "hstu", 64)):
            golden, rows = GOLDEN / "zoo" / case, self.dir / f"{case}.parquet"
            pyarrow.parquet.write_table(pyarrow.parquet.read_table(GOLDEN / f"zoo/data/{data}_train.parquet").slice(0, batch), rows)
            self.run_program(ANNEAL, "predict", "--pipeline_config_path", golden / "pipeline.config", "--checkpoint_path",
                             golden / "weights_init.safetensors", "--predict_input_path", rows, "--predict_output_path", self.dir / case)
            found = pyarrow.parquet.read_table(self.dir / case / "part-0.parquet")
            want = {name.removeprefix("eval/"): raw for name, raw in read_safetensors(golden / "step1_predictions.safetensors").items()
                    if name.startswith("eval/")}
            counts = want.pop("__TARGET_REPEAT_INTERLEAVE_KEY__", None)
            self.assertEqual(found.column_names, sorted(want))
            for name, raw in want.items():
                column = found[name].combine_chunks()
                if counts:  # a list of each row's candidates
                    self.assertEqual([len(cell) for cell in column.to_pylist()], list(array.array("i", counts)))
                while pyarrow.types.is_list(column.type):
                    column = column.flatten()
                values = column.to_pylist()
                self.assertEqual(len(values), len(floats(raw)))
                self.assertLessEqual(max(abs(a - b) for a, b in zip(values, floats(raw))), 1e-5, f"{case}: {name}")

    def test_sid_rqvae(self):
        self.check("sid_rqvae")
        golden = GOLDEN / "zoo/sid_rqvae"
        codes = lambda name, key: array.array("q", read_safetensors(golden / name)[key]).tolist()
        before = self.codes("before", "train", "--checkpoint_path", golden / "weights_init.safetensors")
        self.assertEqual(before[:512], codes("step1_predictions.safetensors", "eval/codes"))
        # The exported model gives the codes of the reference's evaluation.
        self.run_program(ANNEAL, "export", "--pipeline_config_path", golden / "pipeline.config", "--checkpoint_path",
                         golden / "weights_end.safetensors", "--export_dir", self.dir / "x", cwd=GOLDEN / "zoo")
        after = self.codes("after", "eval", export=True)
        self.assertEqual(after, codes("eval_predictions.safetensors", "pred/codes"))
        self.assertEqual(after, self.codes("checkpoint", "eval", "--checkpoint_path", golden / "weights_end.safetensors"))

    def codes(self, out, rows, *checkpoint, export=False):
        model = ["--scripted_model_path", self.dir / "x"] if export else \
            ["--pipeline_config_path", GOLDEN / "zoo/sid_rqvae/pipeline.config", *checkpoint]
        self.run_program(ANNEAL, "predict", *model, "--predict_input_path", GOLDEN / f"zoo/data/rank_{rows}.parquet",
                         "--predict_output_path", self.dir / out)
        table = pyarrow.parquet.read_table(self.dir / out / "part-0.parquet")
        self.assertEqual((table.column_names, str(table.schema.types[0].value_type)), (["codes"], "int64"))
        return table["codes"].combine_chunks().flatten().to_pylist()

    def test_opt_bf16(self):
        # The suggested tolerance; rounding to 8 bits of mantissa makes any other order of additions visible.
        self.check("opt_bf16", tolerance=2e-2, weight_tolerance=2e-2, metric_tolerance=2e-2)

    def test_dcn_v2(self):
        # In a batch with weights of ids, fbgemm's CPU kernel leaves the 1/length of mean pooling out of the gradient of the table
        # (it does not without weights): the same until the tables have changed.
        self.check("dcn_v2", first_steps=1)

    def test_opt_planner_default(self):
        plan = self.plan_of("opt_planner_default")
        tables = plan["model.embedding_group.emb_impls.__BASE__.ebc"]
        self.assertEqual(sum(t["compute_kernel"] == "fused" for t in tables.values()), 2)
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

    def test_masknet(self):
        # Adam on gradients that are almost zero: the reference's own weights move by 1.6e-4 with another number of threads.
        self.check("masknet", weight_tolerance=1e-3)

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
                 "opt_dense_rmsprop", "opt_ema", "wide_and_deep", "dlrm", "wukong", "multi_tower", "multi_tower_3class", "mmoe", "ple", "pepnet",
                 "dbmtl", "dssm", "rocket_launching"):
        setattr(Zoo, "test_" + case, lambda self, case=case: self.check(case))


add_zoo_tests()


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class WrongInput(Case):
    def test_exit_codes_and_messages(self):
        (self.dir / "bad.config").write_text("train_config {\n  num_stepz: 3\n}\n")
        text = self.run_program(ANNEAL, "check", self.dir / "bad.config", expect=64)
        self.assertIn("bad.config:2:3: train_config.num_stepz: TrainConfig has no field 'num_stepz' (did you mean 'num_steps'?)", text)
        (self.dir / "sequence.config").write_text(
            'feature_configs {\n  sequence_feature {\n    sequence_name: "click"\n    features {\n      id_feature {\n        feature_name: "item"\n'
            "        embedding_dim: 4\n        num_buckets: 9\n        value_dim: 3\n      }\n    }\n    features { custom_feature { } }\n  }\n}\n")
        text = self.run_program(ANNEAL, "check", self.dir / "sequence.config", expect=64)
        self.assertIn("sequence.config:9:9: feature_configs[0].sequence_feature.features[0].id_feature.value_dim: feature 'click__item': a sequence", text)
        self.assertIn("sequence.config:12:16: feature_configs[0].sequence_feature.features[1].custom_feature: not supported yet", text)
        self.run_program(ANNEAL, "train", "--pipeline_config_path", self.dir / "bad.config", expect=64)
        self.run_program(ANNEAL, "train", "--pipeline_config_path", self.dir / "missing.config", expect=64)
        self.run_program(ANNEAL, "nonsense", expect=64)
        # What only the model itself knows.
        for activation, fault in (("nn.LeakyReLU(negative_slop=0.2)", "LeakyReLU has no argument 'negative_slop'"),
                                  ("nn.PReLU(num_parameters=5)", "num_parameters has to be 1 or the layer's width"),
                                  ("nn.ReLU(True, 3)", "ReLU has no argument 2")):
            text = self.run_program(ANNEAL, "check", TRAIN / "deepfm_fused.config", "--edit_config_json",
                                    edits(**{"model_config.deepfm.deep.activation": activation}), expect=64)
            self.assertIn(fault, text)
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
