"""The operator on a real API server: the chain of jobs, and kill -9 of the operator at every stage of it."""
import json
import signal
import subprocess
import unittest

import kubernetes

EXAMPLE = kubernetes.ROOT / "examples/movielens"
RESULTS = {
    "movielens-r1-a1-w0": {"globalStep": 99, "metrics": {"auc": 0.78, "loss": 0.5}, "checkpoint": {"step": 99, "path": "/mnt/model/r1/model.ckpt-99"}},
    "movielens-r1-a1-w1": {},
    "movielens-gate-r1-a1-w0": {"globalStep": 99, "metrics": {"auc": 0.77}},
    "movielens-export-r1-a1-w0": {"artifact": {"uri": "file:///x", "sha256": "ab", "sizeBytes": 5}, "metrics": {"max_abs_diff": 0}},
}


class Serve(kubernetes.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.install_kinds()
        cls.log = open(cls.dir / "operator.log", "w")
        cls.addClassCleanup(cls.log.close)

    def start(self):
        self.operator = self.start_operator(self.log)
        self.addCleanup(self.operator.wait)
        self.addCleanup(self.operator.kill)

    def kill(self):
        self.operator.send_signal(signal.SIGKILL)
        self.operator.wait()
        self.start()

    def pods(self):
        return {pod["metadata"]["name"]: pod for pod in self.get("pods")["items"]}

    def phase(self, kind, name):
        return self.get(kind, name).get("status", {}).get("phase")

    def work(self, kind, job, pods):
        """Lets the job's pods run and succeed, with a kill -9 of the operator before each step."""
        self.eventually(lambda: set(pods) <= set(self.pods()), f"pods {pods}")
        self.kill()
        for pod in pods:
            self.report(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        self.eventually(lambda: self.phase(kind, job) == "Running", f"{job} Running")
        self.kill()
        for pod in pods:
            self.report(pod, "Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed", "message": json.dumps(RESULTS[pod]),
                                                          "finishedAt": "2026-01-01T00:01:00Z"}})
        self.kill()
        self.kubectl("wait", "--for=condition=Complete", f"{kind}/{job}", "--timeout=60s")

    def test_the_chain_completes_though_the_operator_is_killed_at_every_stage(self):
        seen = set()
        self.start()
        self.kubectl("apply", "-f", EXAMPLE)
        for kind, job, pods in (("trainjob", "movielens", ["movielens-r1-a1-w0", "movielens-r1-a1-w1"]),
                                ("evaljob", "movielens-gate", ["movielens-gate-r1-a1-w0"]),
                                ("exportjob", "movielens-export", ["movielens-export-r1-a1-w0"])):
            self.work(kind, job, pods)
            seen |= set(self.pods())
        self.assertEqual(seen, set(RESULTS), "a pod was made twice or for nobody")
        for kind, job in (("trainjob", "movielens"), ("evaljob", "movielens-gate"), ("exportjob", "movielens-export")):
            status = self.get(kind, job)["status"]
            self.assertEqual((status["run"]["number"], status["run"]["attempt"], status["run"].get("restarts", 0)), (1, 1, 0), job)
        self.assertEqual(self.get("exportjob", "movielens-export")["status"]["artifact"]["sha256"], "ab")
        # Nothing more to do: nothing more is written.
        versions = lambda: [self.get(kind, job)["metadata"]["resourceVersion"] for kind, job in
                            (("trainjob", "movielens"), ("evaljob", "movielens-gate"), ("exportjob", "movielens-export"))]
        before = versions()
        self.kill()
        self.eventually(lambda: "leading" in (self.dir / "operator.log").read_text().splitlines()[-1], "operator up")
        subprocess.run(["sleep", "5"], check=True)
        self.assertEqual(versions(), before)
        # SIGTERM ends it, and its log holds no credential.
        self.operator.terminate()
        self.assertEqual(self.operator.wait(timeout=40), 0)
        self.assertNotIn("PRIVATE KEY", (self.dir / "operator.log").read_text())


if __name__ == "__main__":
    kubernetes.main()
