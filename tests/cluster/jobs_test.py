"""The example on two nodes: installed by Helm, trained by two pods, gated, exported, published to a claim and to S3."""
import hashlib
import json
import shutil

import kubernetes
import pyarrow.parquet
import torch
from installed import BUILD, EXAMPLE, MOVIELENS, Installed, tool
from store import ENDPOINT, Store


class Jobs(Installed):
    def test_the_operator_answers_from_inside(self):
        self.assertIn("Phase:          Succeeded", self.helm("test", "anneal", "--namespace", "system"))
        pod = self.get("pods", "--namespace", "system", "--selector", "app.kubernetes.io/name=anneal")["items"][0]
        metrics = self.kubectl("get", "--raw", f"/api/v1/namespaces/system/pods/{pod['metadata']['name']}:8080/proxy/metrics")
        self.assertIn('leader_election_master_status{name="anneal-operator"} 1', metrics)
        log = self.kubectl("logs", "--namespace", "system", pod["metadata"]["name"])
        self.assertEqual(json.loads(log.splitlines()[0])["msg"], "starting")

    def data(self):
        """The example's Job has filled the claim; then the real ratings, where they are, take the place of its made-up ones."""
        self.kubectl("wait", "--for=condition=Complete", "job/movielens-data", "--timeout=600s")
        folder = self.folder("movielens-data")
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["eval.parquet", "test.parquet", "train.parquet"])
        if MOVIELENS.exists():
            prepared = self.dir / "movielens"
            tool(BUILD / "bin/anneal-movielens-prepare", "--source", MOVIELENS, "--out", prepared)
            for path in prepared.iterdir():
                (folder / path.name).unlink()
                shutil.copyfile(path, folder / path.name)

    def test_from_manifests_to_a_published_model(self):
        self.data()
        # One (made-up) GPU a node: the two workers have to go to different ones.
        manifests = self.dir / "manifests"
        manifests.mkdir(exist_ok=True)
        for path in EXAMPLE.glob("*.yaml"):
            text = path.read_text()
            if path.name == "trainjob.yaml":
                self.assertIn("gpusPerNode: 0", text)
                text = text.replace("gpusPerNode: 0", "gpusPerNode: 1")
            (manifests / path.name).write_text(text)
        self.kubectl("apply", "-f", manifests)
        self.trains()
        self.passes_its_gate()
        self.publishes()
        store = Store(self)
        self.publishes_to_s3(store)
        self.uploads_its_last_checkpoint_and_evaluates_its_best_one(store)
        self.says_that_credentials_are_wrong(store)

    def trains(self):
        self.eventually(lambda: self.status("trainjob", "movielens").get("phase") == "Running", "the TrainJob running")
        generation = self.get("trainjob", "movielens")["metadata"]["generation"]
        pods = self.pods("movielens")
        self.assertEqual(sorted(pods), [0, 1])
        self.assertEqual({pod["spec"]["nodeName"] for pod in pods.values()}, {"node1", "node2"})
        for pod in pods.values():
            self.assertEqual(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1")
            self.assertEqual(pod["metadata"]["ownerReferences"][0]["kind"], "TrainJob")
        run = self.status("trainjob", "movielens")["run"]["number"]
        snapshot = self.get("configmap", f"movielens-r{run}-config")
        self.assertTrue(snapshot["immutable"])
        self.assertEqual(snapshot["data"]["pipeline.config"], (EXAMPLE / "pipeline.config").read_text())
        self.assertEqual(self.get("service", "movielens-hl")["spec"]["clusterIP"], "None")
        seen = self.eventually(lambda: self.status("trainjob", "movielens").get("progress", {}).get("globalStep"), "a step in status")
        self.kubectl("wait", "--for=condition=Complete", "trainjob/movielens", "--timeout=600s")
        status = self.status("trainjob", "movielens")
        self.assertEqual((status["phase"], status["observedGeneration"], status["run"]["attempt"], status["run"]["restarts"]),
                         ("Complete", generation, 1, 0))
        progress = status["progress"]
        self.assertGreater(progress["globalStep"], seen)
        self.assertEqual(progress["lastCheckpoint"]["step"], progress["globalStep"])
        self.assertGreater(float(progress["auc"]), 0.76)
        self.assertEqual({c["type"] for c in status["conditions"] if c["status"] == "True"}, {"Ready", "Complete", "CheckpointAvailable"})
        self.events("trainjob/movielens", "RunStarted", "RunInProgress", "RunComplete")
        model = self.folder("movielens-model") / status["run"]["id"]
        self.assertTrue((model / f"model.ckpt-{progress['globalStep']}/manifest.json").exists())
        header, row = self.kubectl("get", "trainjob", "movielens").splitlines()
        self.assertEqual(header.split(), ["NAME", "PHASE", "RUN", "WORKERS", "STEP", "PERCENT", "LOSS", "AUC", "RESTARTS", "AGE"])
        self.assertEqual(row.split()[:3], ["movielens", "Complete", str(run)])
        self.assertEqual(row.split()[4:6], [str(progress["globalStep"]), "100%"])

    def passes_its_gate(self):
        self.kubectl("wait", "--for=condition=Complete", "evaljob/movielens-gate", "--timeout=600s")
        status = self.status("evaljob", "movielens-gate")
        self.assertEqual(status["gate"], "passed", status)
        gate, = status["gates"]
        self.assertGreaterEqual(float(gate["value"]), 0.76)
        self.events("evaljob/movielens-gate", "GatePassed")
        self.assertEqual(status["checkpoint"]["step"], self.status("trainjob", "movielens")["progress"]["globalStep"])
        if MOVIELENS.exists():  # what the demo comes to (README.md)
            self.assertGreaterEqual(float(gate["value"]), 0.775)

    def publishes(self):
        self.kubectl("wait", "--for=condition=Complete", "exportjob/movielens-export", "--timeout=600s")
        status = self.status("exportjob", "movielens-export")
        for type in ("Verified", "Published", "Ready"):
            self.assertEqual(self.condition("exportjob", "movielens-export", type)["status"], "True", type)
        folder = self.folder("movielens-artifacts") / "deepfm"
        latest = json.loads((folder / "latest").read_text())
        self.assertTrue(status["artifact"]["uri"].endswith(latest["path"]))
        manifest = (folder / latest["path"] / "MANIFEST.json").read_bytes()
        self.assertEqual(hashlib.sha256(manifest).hexdigest(), status["artifact"]["sha256"])
        self.events("exportjob/movielens-export", "Published")
        self.assertTrue((folder / latest["path"] / "scripted_model.pt").exists())

    def like(self, kind, example, name, **changes):
        """A job as one of the example's, with some blocks of its spec replaced."""
        job = self.get(kind, example)
        self.create({"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": {"name": name}, "spec": {**job["spec"], **changes}})
        self.addCleanup(self.kubectl, "delete", kind, name)

    def bucket(self, name, store, **credentials):
        """A place in the store, with a Secret of that name for its credentials."""
        self.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": credentials})
        self.addCleanup(self.kubectl, "delete", "secret", name)
        return {"uri": f"s3://{store.bucket}/{name}", "s3": {"endpoint": ENDPOINT, "secretRef": {"name": name}}}

    def publishes_to_s3(self, store):
        place = self.bucket("movielens-s3", store, AWS_ACCESS_KEY_ID=store.access_key, AWS_SECRET_ACCESS_KEY=store.secret_key)
        self.like("exportjob", "movielens-export", "movielens-s3", artifact=place)
        status = self.ends("exportjob", "movielens-s3")
        folder = self.dir / "downloaded"
        shutil.rmtree(folder, ignore_errors=True)
        latest = store.download("movielens-s3", folder)
        self.assertEqual(status["artifact"]["uri"], f"s3://{store.bucket}/movielens-s3/{latest['path']}")
        self.assertEqual(status["artifact"]["sha256"], latest["sha256"])
        # Stock torch answers with it, one row as it answers it among others.
        model = torch.jit.load(folder / "scripted_model.pt")
        names = [feature["feature_name"] for feature in json.loads((folder / "fg.json").read_text())["features"]]

        def answers(ids):
            request = {f"{name}.values": torch.tensor(ids) for name in names}
            return model({**request, **{f"{name}.lengths": torch.ones(len(ids), dtype=torch.int64) for name in names}})["probs"]

        with torch.inference_mode():
            together = answers([0, 1, 2])
            self.assertTrue(((together > 0) & (together < 1)).all())
            self.assertEqual(len(set(together.tolist())), 3)
            torch.testing.assert_close(torch.cat([answers([number]) for number in range(3)]), together, atol=1e-6, rtol=0)
        # And ranks the rows of the gate as the trained model did, but for what rounding its tables costs.
        gate, = self.status("evaljob", "movielens-gate")["gates"]
        self.assertAlmostEqual(self.auc("--scripted_model_path", folder), float(gate["value"]), delta=0.003)

    def auc(self, *model):
        """Of what `anneal predict` answers, by the definition: how often a row with label 1 is ranked above one with label 0."""
        answers = self.dir / "answers"
        shutil.rmtree(answers, ignore_errors=True)
        tool(BUILD / "bin/anneal", "predict", *model, "--predict_input_path", self.folder("movielens-data") / "test.parquet",
             "--predict_output_path", answers, "--reserved_columns", "label")
        table = pyarrow.parquet.read_table(answers)
        probs, labels = torch.tensor(table["probs"].to_pylist()), torch.tensor(table["label"].to_pylist()) > 0.5
        above, below = probs[labels].sort().values, probs[~labels].sort().values
        lower, equal_or_lower = (torch.searchsorted(below, above, right=right).double().mean() for right in (False, True))
        return float(lower + equal_or_lower) / 2 / len(below)

    def uploads_its_last_checkpoint_and_evaluates_its_best_one(self, store):
        place = self.bucket("movielens-upload", store, AWS_ACCESS_KEY_ID=store.access_key, AWS_SECRET_ACCESS_KEY=store.secret_key)
        config = self.get("trainjob", "movielens")["spec"]["config"]
        edits = {"train_config.num_epochs": "2", "train_config.keep_checkpoint_max": "1", "export_config.exporter_type": "best",
                 "export_config.best_exporter_metric": "auc", "export_config.metric_larger_is_better": "false"}
        self.like("trainjob", "movielens", "movielens-upload", config={**config, "edits": edits}, artifacts={"upload": place})
        status = self.ends("trainjob", "movielens-upload")
        self.events("trainjob/movielens-upload", "Published")
        folder = self.dir / "uploaded"
        shutil.rmtree(folder, ignore_errors=True)
        latest = store.download("movielens-upload", folder)
        self.assertEqual(status["artifact"]["uri"], f"s3://{store.bucket}/movielens-upload/{latest['path']}")
        last = status["progress"]["lastCheckpoint"]["step"]
        self.assertEqual(sorted(path.name for path in folder.iterdir()), [f"model.ckpt-{last}", "pipeline.config", "train_eval_result_v2.txt"])
        self.assertGreater(self.auc("--pipeline_config_path", folder / "pipeline.config", "--checkpoint_path", folder / f"model.ckpt-{last}"), 0.7)
        # Less is better, says its config: the best one is not the last one, and was kept.
        results = [json.loads(line) for line in (folder / "train_eval_result_v2.txt").read_text().splitlines()]
        best = min(results, key=lambda result: result["auc"])
        self.assertNotEqual(best["global_step"], last)
        self.assertEqual(status["progress"]["bestCheckpoint"], {"step": best["global_step"], "metric": "auc", "value": f"{best['auc']:.6f}"})
        self.like("evaljob", "movielens-gate", "movielens-best", source={"trainJobRef": {"name": "movielens-upload", "checkpoint": "Best"}}, gates=[])
        self.assertEqual(self.ends("evaljob", "movielens-best")["checkpoint"]["step"], best["global_step"])

    def says_that_credentials_are_wrong(self, store):
        secret = "not/The+secret/0123456789abcdefghijklmno"
        before = store.keys()
        place = self.bucket("movielens-refused", store, AWS_ACCESS_KEY_ID=store.access_key, AWS_SECRET_ACCESS_KEY=secret)
        self.like("exportjob", "movielens-export", "movielens-refused", artifact=place)
        failure = self.ends("exportjob", "movielens-refused", "Failed")["failure"]
        self.assertIn("the store refuses these credentials", failure["message"])
        self.assertIn("s3:PutObject", failure["message"])
        self.events("exportjob/movielens-refused", failure["reason"])
        self.assertEqual(store.keys(), before)
        # The secret is in the Secret and nowhere else.
        operator = self.kubectl("logs", "--namespace", "system", "deployment/anneal")
        everything = self.kubectl("get", "exportjobs,pods,configmaps,events", "--all-namespaces", "-o", "yaml")
        log = self.kubectl("logs", "--selector", "anneal.dev/job-name=movielens-refused", "--tail=-1")
        self.assertIn("the store refuses these credentials", log)
        for text in (operator, everything, log):
            self.assertNotIn(secret, text)
            self.assertNotIn(store.secret_key, text)


if __name__ == "__main__":
    kubernetes.main()
