"""charts/anneal on a real API server: what is accepted, what the operator may do, upgrade, and what uninstalling leaves."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
import kubernetes
from helm import CHART, helm, with_values

OPERATOR = pathlib.Path(os.environ["ANNEAL_BUILD"]) / "bin/anneal-operator"
JOB = {"apiVersion": "anneal.dev/v1alpha1", "kind": "TrainJob", "metadata": {"name": "job"},
       "spec": {"image": "worker", "config": {"configMapRef": {"name": "config"}}, "workers": {"gpusPerNode": 0},
                "rendezvous": {"backend": "gloo"}}}


class Install(kubernetes.ClusterTest):
    def helm(self, *args, values=None, fails=False):
        return with_values(args, values or {}, fails=fails, kubeconfig=self.kubeconfig)

    def install(self, name, namespace, values=None):
        self.helm("install", name, CHART, "--namespace", namespace, values=values)
        self.addCleanup(helm, "uninstall", name, "--namespace", namespace, "--ignore-not-found", kubeconfig=self.kubeconfig)

    def may(self, account, namespace, verb, resource):
        """Whether the API server lets the service account do it; resource is TYPE[/NAME][:SUBRESOURCE]."""
        resource, _, part = resource.partition(":")
        said = subprocess.run([self.dir / "bin/kubectl", "--kubeconfig", self.kubeconfig, "auth", "can-i", verb, resource, "--subresource", part,
                               "--as", f"system:serviceaccount:{account}", "--namespace", namespace], capture_output=True, text=True)
        return said.stdout.strip() == "yes"

    def serve(self, account, namespace, *args):
        """The operator as a process with the rights of a service account."""
        token = self.kubectl("create", "token", account, "--namespace", namespace).strip()
        kubeconfig = self.dir / f"{account}.kubeconfig"
        text = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        text["users"][0]["user"] = {"token": token}
        text["contexts"][0]["context"]["namespace"] = namespace
        kubeconfig.write_text(json.dumps(text))
        log = open(self.dir / f"{account}.log", "w")
        self.addCleanup(log.close)
        operator = subprocess.Popen([OPERATOR, "serve", "--kubeconfig", kubeconfig, "--metrics-address", "0", "--health-address",
                                     "127.0.0.1:0", *args], stderr=log)
        self.addCleanup(operator.wait)
        self.addCleanup(operator.kill)
        return pathlib.Path(log.name)

    def test_install_upgrade_and_uninstall(self):
        self.kubectl("create", "namespace", "system")
        self.kubectl("label", "namespace", "system", "pod-security.kubernetes.io/enforce=restricted")
        self.install("anneal", "system")
        self.eventually(lambda: self.get("pods", "--namespace", "system")["items"], "a pod that the restricted standard lets in")
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        account = "system:anneal"
        for verb, resource in (("create", "pods"), ("delete", "services"), ("patch", "trainjobs.anneal.dev:status"), ("watch", "evaljobs.anneal.dev")):
            self.assertTrue(self.may(account, "default", verb, resource), (verb, resource))
        for verb, resource in (("get", "secrets"), ("update", "pods"), ("patch", "trainjobs.anneal.dev"), ("create", "trainjobs.anneal.dev"),
                               ("delete", "persistentvolumeclaims"), ("get", "nodes"), ("create", "pods:exec")):
            self.assertFalse(self.may(account, "default", verb, resource), (verb, resource))
        self.assertTrue(self.may(account, "system", "update", "leases.coordination.k8s.io/anneal-operator"))
        self.assertFalse(self.may(account, "system", "update", "leases.coordination.k8s.io/other"))
        self.assertFalse(self.may(account, "default", "create", "leases.coordination.k8s.io"))

        self.create(JOB)
        self.helm("upgrade", "anneal", CHART, "--namespace", "system",
                  values={"replicaCount": 2, "podDisruptionBudget": {"enabled": True}, "networkPolicy": {"enabled": True}})
        self.assertEqual(self.get("deployment", "anneal", "--namespace", "system")["spec"]["replicas"], 2)
        self.assertEqual(len(self.get("pdb,networkpolicy", "--namespace", "system")["items"]), 2)

        helm("uninstall", "anneal", "--namespace", "system", kubeconfig=self.kubeconfig)
        self.assertEqual(self.get("trainjob", "job")["metadata"]["name"], "job")
        left = self.get("deployment,service,serviceaccount,role,rolebinding,pdb,networkpolicy,clusterrole,clusterrolebinding",
                        "--all-namespaces", "--selector", "app.kubernetes.io/part-of=anneal")["items"]
        self.assertEqual([item["metadata"]["name"] for item in left], [])
        # The definitions that were kept are the next installation's.
        self.install("anneal", "system")
        self.kubectl("delete", "trainjob", "job")

    def test_notes_warn(self):
        notes = lambda values: self.helm("install", "anneal", CHART, "--namespace", "system", "--dry-run=client", values=values)
        self.assertNotIn("WARNING", notes({}))
        for values in ({"crds": {"enabled": False}}, {"crds": {"keep": False}}, {"rbac": {"create": False}},
                       {"leaderElection": {"enabled": False}}):
            self.assertEqual(notes(values).count("WARNING"), 1, values)

    def test_two_namespaced_installations_serve_their_own_namespaces(self):
        for namespace in ("operators", "ads", "search", "other"):
            self.kubectl("create", "namespace", namespace)
        self.kubectl("apply", "-f", kubernetes.ROOT / "crds")
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        values = {"crds": {"enabled": False}, "rbac": {"aggregateClusterRoles": False}}
        self.install("first", "operators", {**values, "fullnameOverride": "first", "watchNamespaces": ["ads"]})
        self.install("second", "operators", {**values, "fullnameOverride": "second", "watchNamespaces": ["search"],
                                             "leaderElection": {"namespace": "search"}})
        self.assertFalse(self.may("operators:first", "search", "list", "pods"))
        logs = [self.serve("first", "operators", "--watch-namespaces=ads"),
                self.serve("second", "operators", "--watch-namespaces=search", "--lease-namespace=search")]
        config = (kubernetes.ROOT / "examples/movielens/pipeline.config").read_text()
        for namespace in ("ads", "search", "other"):
            self.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": namespace},
                         "data": {"pipeline.config": config}})
            self.create({**JOB, "metadata": {"name": "job", "namespace": namespace}})
        for namespace in ("ads", "search"):
            self.eventually(lambda: self.get("pods", "--namespace", namespace)["items"], f"a worker in {namespace}")
        self.assertNotIn("status", self.get("trainjob", "job", "--namespace", "other"))
        self.assertEqual(self.get("pods", "--namespace", "other")["items"], [])
        for log in logs:
            self.assertNotIn("orbidden", log.read_text())


if __name__ == "__main__":
    kubernetes.main()
