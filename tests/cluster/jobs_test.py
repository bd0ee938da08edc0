"""The example on two nodes: installed by Helm, trained by two pods, gated, exported, published."""
import hashlib
import json
import shutil

import kubernetes
from installed import BUILD, EXAMPLE, MOVIELENS, Installed, tool


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
        model = self.folder("movielens-model") / f"r{run}"
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
        self.assertEqual(status["checkpoint"]["step"], self.status("trainjob", "movielens")["progress"]["globalStep"])

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
        self.assertTrue((folder / latest["path"] / "scripted_model.pt").exists())


if __name__ == "__main__":
    kubernetes.main()
