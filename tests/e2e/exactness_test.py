"""Nothing that happens to a run may change what it computes: kill -9 anywhere, damaged checkpoints, a full disk."""
import fnmatch
import json
import os
import random
import re
import shutil
import signal
import subprocess
import unittest

from harness import ANNEAL, BUILD, GOLDEN, Case, edits, no_room, read_safetensors, weights

ZOO = GOLDEN / "zoo"

# Everything that has state: dropout, schedules, accumulation, averages, loss scale, clipping, train metrics, shuffling.
CONFIG = {"train_config.gradient_accumulation_steps": 4, "train_config.dense_optimizer.ema.decay": 0.8,
          "train_config.grad_scaler.init_scale": 1024, "train_config.grad_scaler.growth_interval": 3,
          "train_config.mixed_precision": "BF16", "train_config.grad_clipping.clipping_type": "norm",
          "train_config.grad_clipping.max_gradient": 0.05, "model_config.deepfm.deep.dropout_ratio": [0.2],
          "model_config.train_metrics": "[{ auc { } decay_step: 7 }]",
          "train_config.dense_optimizer.exponential_decay_learning_rate.decay_size": 5,
          "data_config.num_workers": 2, "data_config.shuffle": True, "data_config.shuffle_buffer_size": 3}


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Exactness(Case):
    def command(self, model, *more, **config):
        return [str(word) for word in (
            ANNEAL, "train", "--pipeline_config_path", ZOO / "deepfm/pipeline.config", "--model_dir", self.dir / model,
            "--train_input_path", ZOO / "data/rank_train.parquet", "--eval_input_path", ZOO / "data/rank_eval.parquet",
            "--edit_config_json", edits(**{**CONFIG, **config}), *more)]

    def assert_same_state(self, one, two, step):
        for kind in ("model", "optimizer"):
            left, right = (read_safetensors(next((self.dir / run / f"model.ckpt-{step}").glob(kind + "-*.safetensors")))
                           for run in (one, two))
            self.assertEqual(sorted(left), sorted(right))
            for tensor, raw in left.items():
                self.assertEqual(raw, right[tensor], tensor)
        left, right = ([json.loads((self.dir / run / f"model.ckpt-{step}" / name).read_text())
                        for name in ("train_state.json", "dataloader_state.json")] for run in (one, two))
        self.assertEqual(left, right)

    def newest(self):
        return max((int(path.name.rpartition("-")[2]) for path in (self.dir / "m").glob("model.ckpt-*")), default=0)

    def results(self, model="m"):
        """Whole lines: a kill may have cut one."""
        path = self.dir / model / "train_eval_result_v2.txt"
        return [line for line in path.read_text().splitlines(True) if line.endswith("}\n")] if path.exists() else []

    def die(self, command, begin, call, end, count=1, cut="after", delay=0):
        """A life of a run that ends by a kill -9 of its own (kill_itself.cpp): what it says about that."""
        moment = {"BELOW": self.dir, "BEGIN": begin, "CALL": call, "END": end, "COUNT": count, "CUT": cut, "DELAY": delay}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={
            **os.environ, "OMP_NUM_THREADS": "1", "LD_PRELOAD": str(BUILD / "lib/kill_itself.so"),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",  # a build with sanitizers
            **{"KILL_" + name: str(value) for name, value in moment.items()}})
        self.assertEqual(done.returncode, -signal.SIGKILL, done.stdout + done.stderr[-3000:])
        (how, event), = re.findall("^kill_itself: (.*?): (.*)$", done.stderr, re.MULTILINE)
        self.assertIn(how, ("end", f"{delay} us after" if delay else cut))
        self.assertTrue(fnmatch.fnmatchcase(event, end if how == "end" else call), event)
        return f"{how}: {event}"

    def moment(self, kind, step):
        """Where a life dies, around the checkpoint of a step."""
        part = f"m/.model.ckpt-{step}.unfinished"
        begun, published, result = f"mkdir {part}", f"rename {part} m/model.ckpt-{step}", "write m/train_eval_result_v2.txt"
        if kind == "write":  # of about 105 calls most write tensors
            files, calls = random.choice((("*", 110), ("/*.json", 20)))
            return {"begin": begun, "call": f"* {part}{files}", "count": random.randrange(1, calls), "end": published,
                    "cut": random.choice(("before", "half", "after"))}
        if kind == "evaluation":  # beside the writing of tensors; when it is over, the other files follow
            return {"begin": begun, "call": "read eval.parquet", "count": random.randrange(1, 3),
                    "delay": random.randrange(1, 15000), "end": f"open {part}/dataloader_state.json"}
        if kind == "prune":
            return {"begin": published, "call": "* m/*.pruned.unfinished*", "count": random.randrange(1, 8), "end": result}
        if kind == "result":
            return {"begin": published, "call": result, "cut": random.choice(("before", "half")), "end": "mkdir *"}
        if kind == "step":
            return {"begin": published, "call": result, "delay": random.randrange(1, 9000), "end": "mkdir *"}
        return {"begin": "rename m/version.part *", "call": "open m/train_eval_result_v2.txt",  # "evaluation again"
                "delay": random.randrange(1, 15000), "end": result}

    def test_kills_change_nothing(self):
        """Every life saves up to two checkpoints and dies in the cycle of the next one: in the writing of its files, in the
        evaluation beside that, in the removal of an old checkpoint, in the writing of the result, or in the steps after it.
        Where the result is missing then, the next life dies in the evaluation that makes up for it."""
        random.seed(30)
        plan = [(kind, random.randrange(1, 4)) for kind, lives in
                {"step": 12, "write": 12, "prune": 4, "evaluation": 8, "result": 4}.items() for _ in range(lives)]
        random.shuffle(plan)
        last = 3 * sum(cycles for _, cycles in plan) + 7
        shutil.copy(ZOO / "data/rank_eval.parquet", self.dir / "eval.parquet")
        config = {"train_config.num_steps": last + 1, "train_config.save_checkpoints_steps": 3,
                  "train_config.keep_checkpoint_max": 2, "eval_input_path": str(self.dir / "eval.parquet")}
        self.run_program(*self.command("whole", **config))
        command, folder, hits = self.command("m", "--continue_train", **config), self.dir / "m", []
        for kind, cycles in plan:
            step = self.newest() + 3 * cycles
            said = self.die(command, **self.moment(kind, step))
            hits.append(f"{kind}: {said}")
            # What is left proves where it was.
            part, evaluated = folder / f".model.ckpt-{step}.unfinished", f'"global_step": {step},' in "".join(self.results())
            saved, hidden = self.newest() == step, [path.name for path in folder.glob(".*")]
            self.assertEqual((saved, evaluated), (kind in ("step", "prune", "result"), kind == "step"), hits[-1])
            if kind == "prune":
                self.assertEqual([name.endswith(".pruned.unfinished") for name in hidden], [True], hits[-1])
            else:
                self.assertEqual(hidden, [] if saved else [part.name], hits[-1])
            if kind == "evaluation":
                self.assertFalse((part / "dataloader_state.json").exists(), hits[-1])
            if saved and not evaluated:
                hits.append("evaluation again: " + self.die(command, **self.moment("evaluation again", step)))
                self.assertNotIn(f'"global_step": {step},', "".join(self.results()))
        print(*hits, f"{len(hits)} kills", sep="\n")
        self.run_program(*command)
        self.assert_same_state("whole", "m", last)
        self.assertEqual(weights(self.dir / f"whole/model.ckpt-{last}"), weights(folder / f"model.ckpt-{last}"))
        self.assertEqual(self.results("whole"), self.results())
        self.assertEqual(list(folder.glob(".*")), [])

    def test_a_kill_in_the_last_evaluation_loses_no_result(self):
        """Its line is cut, as a kill in the middle of the writing would: the next life makes that evaluation again."""
        steps = {"train_config.num_steps": 11, "train_config.save_checkpoints_steps": 5}
        self.run_program(*self.command("m", **steps))
        results = self.dir / "m/train_eval_result_v2.txt"
        whole = results.read_text()
        self.assertEqual([json.loads(line)["global_step"] for line in whole.splitlines()], [5, 10])
        results.write_text(whole[:-20])
        text = self.run_program(*self.command("m", "--continue_train", **steps))
        self.assertIn("Evaluating checkpoint of step 10, which has no result yet", text)
        self.assertEqual(results.read_text(), whole[:-20] + "\n" + whole.splitlines(True)[1])
        text = self.run_program(*self.command("m", "--continue_train", **steps))
        self.assertNotIn("Evaluating checkpoint", text)

    def test_a_stop_in_the_middle_of_an_accumulation_changes_nothing(self):
        self.run_program(*self.command("whole", train_config__num_steps=40))
        self.run_program(*self.command("parts", train_config__num_steps=18))
        self.run_program(*self.command("parts", "--continue_train", train_config__num_steps=40))
        self.assert_same_state("whole", "parts", 39)
        state = json.loads((self.dir / "parts/model.ckpt-39/train_state.json").read_text())
        self.assertEqual(state["ema_updates"], 10)
        self.assertEqual(state["grad_scaler"], {"scale": 8192.0, "growth_tracker": 1})

    def test_checkpoints_written_beside_training_hold_their_step(self):
        """Tables so large that several steps are trained while a checkpoint is written; nothing is evaluated meanwhile."""
        def train(model, **steps):
            return self.run_program(*self.command(model, **steps, **{
                "eval_input_path": "", "feature_configs[0].id_feature.num_buckets": 400000,
                "train_config.keep_checkpoint_max": 100}))

        beside = train("beside", **{"train_config.num_steps": 61, "train_config.save_checkpoints_steps": 10})
        self.assertEqual(len(re.findall("Saved dataloader state to", beside)), 6)
        for step in (10, 30):
            train(f"alone{step}", **{"train_config.num_steps": step + 1})
            self.assert_same_state(f"alone{step}", "beside", step)

    def test_damage_to_any_file_of_the_newest_checkpoint(self):
        steps = {"train_config.num_steps": 11, "train_config.save_checkpoints_steps": 5}
        self.run_program(*self.command("good", **steps))
        more = {**steps, "train_config.num_steps": 13}
        self.run_program(*self.command("whole", **more))
        names = sorted(path.name for path in (self.dir / "good/model.ckpt-10").iterdir())
        self.assertEqual(names, ["dataloader_state.json", "manifest.json", "model-00000-of-00001.safetensors",
                                 "optimizer-00000-of-00001.safetensors", "plan", "train_state.json"])
        for name in names:
            shutil.rmtree(self.dir / "m", ignore_errors=True)
            shutil.copytree(self.dir / "good", self.dir / "m")
            path = self.dir / "m/model.ckpt-10" / name
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            path.write_bytes(raw if name.endswith("s") else raw[:len(raw) // 2])  # flipped, or truncated
            text = self.run_program(*self.command("m", "--continue_train", **more))
            self.assertRegex(text, rf"WARNING.*{name}.*damaged; taking the checkpoint before it")
            self.assertIn(f"Restoring checkpoint from {self.dir}/m/model.ckpt-5", text)
            # The damaged one is written anew on the way.
            self.assert_same_state("whole", "m", 12)
            self.assert_same_state("whole", "m", 10)

    def test_a_full_disk_fails_the_save_not_the_run(self):
        steps = {"train_config.save_checkpoints_steps": 4}
        self.run_program(*self.command("m", train_config__num_steps=5, **steps))
        before = {path.name: path.read_bytes() for path in (self.dir / "m/model.ckpt-4").iterdir()}
        command = self.command("m", "--continue_train", train_config__num_steps=12, **steps)

        done = subprocess.run(command, capture_output=True, text=True, timeout=600, preexec_fn=no_room,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        text = done.stdout + done.stderr
        # Every save is tried and fails, training goes on to its end; that nothing of it is left is a temporary failure.
        for step in (8, 11):
            self.assertRegex(text, rf"checkpoint of step {step} could not be written: cannot write .*model-00000")
        self.assertEqual(done.returncode, 75, text[-3000:])
        self.assertEqual(list((self.dir / "m").glob("model.ckpt-*")), [self.dir / "m/model.ckpt-4"])
        self.assertEqual({path.name: path.read_bytes() for path in (self.dir / "m/model.ckpt-4").iterdir()}, before)
        self.assertEqual(list((self.dir / "m").glob(".*unfinished")), [])
        self.run_program(*command)  # room again
        self.run_program(*self.command("whole", train_config__num_steps=12, **steps))
        self.assert_same_state("whole", "m", 11)


if __name__ == "__main__":
    unittest.main(verbosity=2)
