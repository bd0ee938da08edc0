"""TrainJob -> EvalJob -> ExportJob through `anneal-operator run`: success, kill -9, gates, wrong manifests."""
import json
import os
import signal
import subprocess
import time
import unittest

from harness import BUILD, OPERATOR, ROOT, Case, kill_when, processes, weights

EXAMPLE = ROOT / "examples/movielens"
MOVIELENS = ROOT / ".deps/movielens/recbole/dataset_example/ml-100k"


class Jobs(Case):
    def prepare(self, *source):
        self.state = self.dir / "state"
        data = self.state / "volumes/default/movielens-data"
        self.run_program(BUILD / "bin/anneal-movielens-prepare", *source, "--out", data)

    def manifests(self, edits=None, gate="0.55"):
        """The example's manifests, faster: no shuffling (so that a resume is exact), a checkpoint every 20 steps."""
        text = {path.name: path.read_text() for path in EXAMPLE.glob("*.yaml")}
        lines = {"data_config.shuffle": "false", "train_config.save_checkpoints_epochs": "0",
                 "train_config.save_checkpoints_steps": "20", "train_config.num_epochs": "3", **(edits or {})}
        block = "".join(f'      {key}: "{value}"\n' for key, value in lines.items())
        text["trainjob.yaml"] = text["trainjob.yaml"].replace("  workers:\n", "    edits:\n" + block + "  workers:\n", 1)
        text["evaljob.yaml"] = text["evaljob.yaml"].replace('"0.76"', f'"{gate}"')
        folder = self.dir / "manifests"
        folder.mkdir(exist_ok=True)
        for name, content in text.items():
            (folder / name).write_text(content)
        return folder

    def operator(self, *more, expect=0):
        return self.run_program(OPERATOR, *more, "--state", self.state, expect=expect)

    def status(self, kind, name):
        return json.loads(self.operator("get", kind, name, "-o", "json"))["status"]

    def model(self):
        """The folder of run 1, r1-<8 digits of the job's UID>; the beginning of its name while it is not there."""
        volume = self.state / "volumes/default/movielens-model"
        return next(volume.glob("r1-*"), volume / "r1-")

    def last_checkpoint(self):
        step = self.status("trainjob", "movielens")["progress"]["lastCheckpoint"]["step"]
        return weights(self.model() / f"model.ckpt-{step}")

    def test_success_and_what_the_commands_show(self):
        self.prepare("--synthetic", 6000)
        text = self.operator("run", self.manifests())
        self.assertIn("ExportJob/movielens-export  Complete", text)
        artifact = self.status("exportjob", "movielens-export")["artifact"]
        folder = artifact["uri"].removeprefix("file://")
        self.assertTrue(os.path.exists(folder + "/scripted_model.pt"))
        latest = json.loads((self.state / "volumes/default/movielens-artifacts/deepfm/latest").read_text())
        self.assertTrue(folder.endswith(latest["path"]))
        self.assertEqual(latest["sha256"], artifact["sha256"])
        self.assertRegex(self.operator("get"), r"movielens +Complete +1 +0/2")
        self.assertIn("GatePassed", self.operator("describe", "evaljob", "movielens-gate"))
        self.assertIn("Train and Evaluate Finished.", self.operator("logs", "movielens"))
        # A second run with the same files finds everything done.
        self.assertIn("Complete", self.operator("run", self.dir / "manifests"))
        self.assertEqual(self.status("trainjob", "movielens")["run"]["number"], 1)

    def test_kill_9_of_a_worker_resumes_to_the_same_model(self):
        self.prepare("--synthetic", 20000)
        folder = self.manifests()
        self.operator("run", folder)
        undisturbed = self.last_checkpoint()
        loss = self.status("trainjob", "movielens")["progress"]["loss"]
        os.rename(self.state, self.dir / "undisturbed")
        self.prepare("--synthetic", 20000)
        run = subprocess.Popen([str(c) for c in [OPERATOR, "run", folder, "--state", self.state]], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        marker = str(self.model())
        kill_when(lambda: (self.model() / "model.ckpt-20/manifest.json").exists(), lambda: processes("train", marker))
        output, _ = run.communicate(timeout=180)
        self.assertEqual(run.returncode, 0, output[-3000:])
        status = self.status("trainjob", "movielens")
        self.assertGreaterEqual(status["run"]["restarts"], 1)
        self.assertEqual(status["progress"]["loss"], loss)
        self.assertEqual(self.last_checkpoint(), undisturbed)

    def test_kill_9_of_the_operator_goes_on_from_its_state(self):
        self.prepare("--synthetic", 20000)
        folder = self.manifests()
        run = subprocess.Popen([str(c) for c in [OPERATOR, "run", folder, "--state", self.state]], stdout=subprocess.DEVNULL)
        kill_when(lambda: (self.model() / "model.ckpt-20/manifest.json").exists(), lambda: [run.pid])
        run.wait()
        for _ in range(200):  # the kernel ends them; on a busy machine not at once
            if not processes("train", str(self.model())):
                break
            time.sleep(0.1)
        self.assertEqual(processes("train", str(self.model())), [], "workers outlived the operator")
        self.assertIn("ExportJob/movielens-export  Complete", self.operator("run", folder))

    def test_ctrl_c_lets_workers_write_a_checkpoint(self):
        self.prepare("--synthetic", 20000)
        folder = self.manifests({"train_config.save_checkpoints_steps": "100000", "train_config.num_epochs": "30"})
        run = subprocess.Popen([str(c) for c in [OPERATOR, "run", folder, "--state", self.state]], stdout=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
        log = self.state / "logs/default/movielens-r1-a1-w0.log"
        kill_when(lambda: log.exists() and "Training Epoch" in log.read_text(), lambda: [run.pid], signal.SIGINT)
        self.assertEqual(run.wait(timeout=60), 130)
        self.assertIn("SIGTERM: writing a checkpoint", log.read_text())
        self.assertEqual(len(list(self.model().glob("model.ckpt-*/manifest.json"))), 1)
        self.assertIn("ExportJob/movielens-export  Complete", self.operator("run", folder))
        self.assertIn("Restoring checkpoint from", self.operator("logs", "movielens"))

    def test_a_failed_gate_exports_nothing(self):
        self.prepare("--synthetic", 6000)
        text = self.operator("run", self.manifests(gate="0.999"), expect=1)
        self.assertIn("must be GTE 0.999", text)
        self.assertFalse((self.state / "volumes/default/movielens-artifacts").exists())
        self.assertNotIn("run", self.status("exportjob", "movielens-export"))

    def test_a_wrong_config_fails_before_any_pod(self):
        self.prepare("--synthetic", 6000)
        folder = self.manifests()
        path = folder / "configmap.yaml"
        path.write_text(path.read_text().replace("hidden_units: [128, 64]", "hidden_unitz: [128, 64]"))
        text = self.operator("run", folder, expect=1)
        self.assertIn("did you mean 'hidden_units'?", text)
        self.assertIn("No resources found", self.operator("get", "pods"))

    def test_wrong_manifests_name_the_field(self):
        self.state = self.dir / "state"
        (self.dir / "bad.yaml").write_text("apiVersion: anneal.dev/v1alpha1\nkind: TrainJob\nmetadata: {name: x}\nspec: {imagee: y}\n")
        text = self.operator("run", self.dir / "bad.yaml", expect=64)
        self.assertIn("spec.imagee: unknown field (did you mean 'image'?)", text)
        self.assertIn("spec.config: is required", text)

    @unittest.skipUnless(MOVIELENS.exists(), "MovieLens-100k is not fetched")
    def test_movielens_reaches_its_auc(self):
        self.prepare("--source", MOVIELENS)
        self.operator("run", EXAMPLE)
        self.assertGreaterEqual(float(self.status("evaljob", "movielens-gate")["progress"]["auc"]), 0.775)


if __name__ == "__main__":
    unittest.main(verbosity=2)
