"""Argo CD's and Flux's health checks of docs/gitops, on recorded objects and on those of a real API server with the operator at work;
and the CronJob's command, run with the rights of its service account."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
import kubernetes

HERE = pathlib.Path(__file__).parent
GITOPS = kubernetes.ROOT / "docs/gitops"
HEALTH = pathlib.Path(os.environ["ANNEAL_BUILD"]) / "bin/gitops-health"
EXAMPLE = kubernetes.ROOT / "examples/movielens"


def health(*objects):
    """[(Argo CD's status, its message, Flux's status)]"""
    done = subprocess.run([HEALTH, GITOPS / "argocd/health.lua", GITOPS / "flux/kustomization.yaml"], input=json.dumps(objects),
                          capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return [(v["lua"], v["message"], v["flux"]) for v in json.loads(done.stdout)]


class Recorded(unittest.TestCase):
    def test_every_state(self):
        cases = json.loads((HERE / "objects.json").read_text())
        found = health(*[case["object"] for case in cases])
        for case, (argo, message, flux) in zip(cases, found):
            with self.subTest(case["name"]):
                self.assertEqual((argo, message, flux), (case["argo"], case["message"], case["flux"]))

    def test_the_config_map_holds_the_script(self):
        script = (GITOPS / "argocd/health.lua").read_text()
        text = (GITOPS / "argocd/argocd-cm.yaml").read_text()
        entry = "".join(("    " + line).rstrip() + "\n" for line in script.splitlines())
        for kind in ("TrainJob", "EvalJob", "ExportJob"):
            self.assertIn(f"  resource.customizations.health.anneal.dev_{kind}: |\n{entry}", text)


class OnACluster(kubernetes.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.install_kinds()
        log = open(cls.dir / "operator.log", "w")
        cls.addClassCleanup(log.close)
        operator = cls.start_operator(log)
        cls.addClassCleanup(operator.wait)
        cls.addClassCleanup(operator.kill)
        cls.kubectl("apply", "-f", EXAMPLE)

    def run_pod(self, pod, code=0, message=None):
        self.eventually(lambda: any(p["metadata"]["name"] == pod for p in self.get("pods")["items"]), pod)
        self.report(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        self.report(pod, "Succeeded" if code == 0 else "Failed",
                    {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": json.dumps(message or {}),
                                    "finishedAt": "2026-01-01T00:01:00Z"}})

    def becomes(self, kind, name, argo, flux):
        judged = lambda: health(self.get(kind, name))[0]
        self.eventually(lambda: judged()[0::2] == (argo, flux), f"{kind} {name} {argo}/{flux}")
        return judged()[1]

    def describe(self, kind, name):
        return self.kubectl("describe", kind, name)

    def test_1_the_pipeline(self):
        self.becomes("trainjob", "movielens", "Progressing", "InProgress")
        self.assertIn("WaitingForSource", self.becomes("evaljob", "movielens-gate", "Progressing", "InProgress"))
        for pod in ("movielens-r1-a1-w0", "movielens-r1-a1-w1"):
            self.run_pod(pod, 0, {"globalStep": 9, "metrics": {"auc": 0.78}, "checkpoint": {"step": 9}})
        self.becomes("trainjob", "movielens", "Healthy", "Current")
        self.run_pod("movielens-gate-r1-a1-w0", 0, {"metrics": {"auc": 0.5}})
        message = self.becomes("evaljob", "movielens-gate", "Degraded", "Failed")
        self.assertIn("GateFailed: auc is 0.500000, must be GTE 0.76", message)
        self.becomes("exportjob", "movielens-export", "Degraded", "Failed")

    def test_2_kubectl_describe_tells_what_happened(self):
        for kind, name, words in (("trainjob", "movielens", ("RunStarted", "Creating", "RunComplete")),
                                  ("evaljob", "movielens-gate", ("WaitingForSource", "RunStarted", "Warning  GateFailed"))):
            for word in words:
                self.eventually(lambda: word in self.describe(kind, name).split("Events:")[1], f"{word} in the events of {name}", 30)

    def test_3_the_nightly_run(self):
        self.kubectl("apply", "-f", GITOPS / "retrain-nightly.yaml")
        self.kubectl("create", "job", "now", "--from=cronjob/retrain-movielens")
        pod = self.get("job", "now")["spec"]["template"]["spec"]
        # No node runs it here: its command is run on this machine, with the token of its service account.
        token = self.kubectl("create", "token", pod["serviceAccountName"]).strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path = self.dir / "retrain.kubeconfig"
        path.write_text(json.dumps(config))
        done = subprocess.run(pod["containers"][0]["command"], capture_output=True, text=True,
                              env={"PATH": f"{self.dir / 'bin'}:{os.environ['PATH']}", "KUBECONFIG": str(path), "HOME": str(self.dir)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.eventually(lambda: self.get("trainjob", "movielens")["status"]["run"]["number"] == 2, "run 2")
        self.assertEqual(self.get("trainjob", "movielens")["status"]["run"]["trigger"], "Annotation")
        self.becomes("trainjob", "movielens", "Progressing", "InProgress")
        # It may do this and nothing else.
        refused = subprocess.run([self.dir / "bin/kubectl", "--kubeconfig", path, "delete", "trainjob", "movielens"], capture_output=True, text=True,
                                 env={**os.environ, "HOME": str(self.dir)})
        self.assertIn("Forbidden", refused.stderr.replace("forbidden", "Forbidden"))

    def test_4_failed_and_suspended(self):
        self.kubectl("patch", "trainjob", "movielens", "--type=merge", "-p", '{"spec": {"suspend": true}}')
        self.eventually(lambda: [self.kubectl("delete", "pod", p["metadata"]["name"], "--grace-period=0", "--force") for p in
                                 self.get("pods", "-l", "anneal.dev/job-name=movielens")["items"]] or True, "pods away")
        self.eventually(lambda: self.get("trainjob", "movielens")["status"]["phase"] == "Suspended", "Suspended")
        self.becomes("trainjob", "movielens", "Suspended", "Current")
        self.kubectl("patch", "trainjob", "movielens", "--type=merge", "-p", '{"spec": {"suspend": false}}')
        self.run_pod("movielens-r2-a2-w0", 64, {"message": "train_config is missing"})
        self.assertIn("ConfigInvalid", self.becomes("trainjob", "movielens", "Degraded", "Failed"))


if __name__ == "__main__":
    kubernetes.main()
