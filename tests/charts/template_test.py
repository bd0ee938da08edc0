"""What charts/anneal renders for many values, and what it refuses."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from helm import CHART, ROOT, render, template, with_values, yaml

OPERATOR = pathlib.Path(os.environ["ANNEAL_BUILD"]) / "bin/anneal-operator"

# Everything that can be switched on.
FULL = {
    "image": {"registry": "registry.example", "digest": "sha256:" + "a" * 64, "pullSecrets": [{"name": "pull"}]},
    "commonLabels": {"team": "ads"}, "replicaCount": 2, "volcano": {"enabled": True}, "extraArgs": ["--workers=9"],
    "extraEnv": [{"name": "TZ", "value": "UTC"}], "priorityClassName": "system-cluster-critical",
    "extraVolumes": [{"name": "more", "emptyDir": {}}], "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
    "nodeSelector": {"pool": "system"}, "tolerations": [{"operator": "Exists"}], "startupProbe": {"failureThreshold": 30},
    "podDisruptionBudget": {"enabled": True}, "networkPolicy": {"enabled": True},
    "metrics": {"serviceMonitor": {"enabled": True}}, "prometheusRule": {"enabled": True},
    "grafana": {"dashboard": {"enabled": True}},
}

# The rights that the operator needs, by hand from what it calls. More is a finding of a security review, less an outage.
RIGHTS = {
    "anneal.dev": {"trainjobs": "get list watch", "trainjobs/status": "patch", "trainjobs/finalizers": "update",
                   "evaljobs": "get list watch", "evaljobs/status": "patch", "evaljobs/finalizers": "update",
                   "exportjobs": "get list watch", "exportjobs/status": "patch", "exportjobs/finalizers": "update"},
    "": {"pods": "create delete get list watch", "configmaps": "create delete get list", "services": "create delete get",
         "persistentvolumeclaims": "create get", "events": "create patch"},
    "events.k8s.io": {"events": "create patch"},
}

REFUSED = [
    ({"replicaCuont": 2}, "replicaCuont"),
    ({"replicaCount": 9}, "replicaCount"),
    ({"replicaCount": "2"}, "replicaCount"),
    ({"image": {"tagg": "1"}}, "tagg"),
    ({"image": {"digest": "sha256:short"}}, "image"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"watchNamespaces": ["Ads"]}, "watchNamespaces"),
    ({"metrics": {"port": 80}}, "port"),
    ({"controller": {"workers": 0}}, "workers"),
    ({"client": {"qps": -1}}, "qps"),
    ({"logging": {"level": "loud"}}, "level"),
    ({"leaderElection": {"leaseSeconds": 10, "renewSeconds": 10}}, "leaseSeconds has to be more than renewSeconds"),
    ({"extraArgs": ["serve"]}, "extraArgs"),
    ({"resources": {"limits": {"memory": "much"}}}, "memory"),
    ({"crds": {"keep": "yes"}}, "keep"),
    ({"replicaCount": 2, "leaderElection": {"enabled": False}}, "two operators without a leader would both act"),
    ({"podDisruptionBudget": {"enabled": True}}, "it would block every node drain"),
    ({"metrics": {"enabled": False, "serviceMonitor": {"enabled": True}}}, "needs metrics.enabled"),
]


def rights(rules):
    """[rule] -> {group: {resource: "verb verb"}}; a right that is given twice is an error."""
    found = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert resource not in found.setdefault(group, {}), resource
                found[group][resource] = " ".join(sorted(rule["verbs"]))
    return found


class Chart(unittest.TestCase):
    maxDiff = None

    def deployment(self, values=None):
        return render(values)["Deployment", "system", "anneal"]["spec"]["template"]["spec"]

    def test_lint(self):
        for values in ({}, FULL):
            with_values(["lint", "--strict", "--kube-version", "1.34.4", CHART], values)

    def test_renders_the_same_each_time_and_for_each_supported_kubernetes(self):
        for values in ({}, FULL, {"watchNamespaces": ["a", "b"]}):
            text = template(values)
            self.assertEqual(text, template(values))
            self.assertEqual(text, template(values, kubernetes="1.30.0"))
        self.assertIn("1.30.0", template({}, kubernetes="1.29.9", fails=True))

    def test_what_a_default_installation_is(self):
        kinds = sorted(kind for kind, _, _ in render())
        self.assertEqual(kinds, ["ClusterRole"] * 3 + ["ClusterRoleBinding"] + ["CustomResourceDefinition"] * 3 +
                         ["Deployment", "Pod", "Role", "RoleBinding", "Service", "ServiceAccount"])
        full = {kind for kind, _, _ in render(FULL)} - set(kinds)
        self.assertEqual(full, {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule", "ServiceMonitor"})

    def test_rights_are_exactly_those_needed(self):
        role = render()["ClusterRole", "", "anneal"]
        self.assertEqual(rights(role["rules"]), RIGHTS)
        lease = rights(render()["Role", "system", "anneal-leader"]["rules"][:1])
        self.assertEqual(lease, {"coordination.k8s.io": {"leases": "create"}})
        self.assertEqual(render()["Role", "system", "anneal-leader"]["rules"][1],
                         {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["anneal-operator"],
                          "verbs": ["get", "update", "patch"]})
        volcano = rights(render({"volcano": {"enabled": True}})["ClusterRole", "", "anneal"]["rules"])
        self.assertEqual(volcano.pop("scheduling.volcano.sh"), {"podgroups": "create delete get list"})
        self.assertEqual(volcano, RIGHTS)

    def test_a_namespaced_installation_has_no_right_outside(self):
        objects = render({"watchNamespaces": ["a", "b", "a"], "rbac": {"aggregateClusterRoles": False}, "crds": {"enabled": False}})
        self.assertEqual([key for key in objects if not key[1]], [])
        for namespace in ("a", "b"):
            self.assertEqual(rights(objects["Role", namespace, "anneal"]["rules"]), RIGHTS)
            self.assertEqual(objects["RoleBinding", namespace, "anneal"]["subjects"],
                             [{"kind": "ServiceAccount", "name": "anneal", "namespace": "system"}])
        self.assertIn("--watch-namespaces=a,b", self.deployment({"watchNamespaces": ["a", "b", "a"]})["containers"][0]["args"])

    def test_definitions_are_those_in_crds(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([CHART / "make-crds", folder], check=True)
            for file in sorted((CHART / "templates/crds").iterdir()):
                self.assertEqual(file.read_text(), (pathlib.Path(folder) / file.name).read_text(), "run charts/anneal/make-crds")
        for file in (ROOT / "crds").glob("*.yaml"):
            wanted = yaml.safe_load(file.read_text())
            found = render()["CustomResourceDefinition", "", wanted["metadata"]["name"]]
            self.assertEqual(found["metadata"]["annotations"], {"helm.sh/resource-policy": "keep"})
            self.assertEqual(found["spec"], wanted["spec"])
        self.assertNotIn("helm.sh/resource-policy", template({"crds": {"keep": False}}))
        self.assertNotIn("CustomResourceDefinition", template({"crds": {"enabled": False}}))

    def test_the_command_line_is_one_that_the_operator_takes(self):
        known = subprocess.run([OPERATOR, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        for values in ({}, {"leaderElection": {"enabled": False}}, {"watchNamespaces": ["a"], "metrics": {"enabled": False}}):
            command, *args = self.deployment(values)["containers"][0]["args"]
            self.assertEqual(command, "serve")
            for arg in args:
                self.assertRegex(known, re.escape(arg.split("=")[0]) + r"\b")
        # And every flag has a value in the chart, but those of a kubeconfig, which a pod needs not.
        used = {arg.split("=")[0] for values in ({}, FULL, {"watchNamespaces": ["a"]}) for arg in self.deployment(values)["containers"][0]["args"]}
        self.assertEqual(set(re.findall(r"(?<![-\w])--[a-z-]+", known.split("\n\n")[1])) - used, {"--help", "--kubeconfig", "--context", "--no-leader-elect"})

    def test_values_reach_the_command_line(self):
        args = self.deployment({"client": {"qps": 12.5, "burst": 40}, "logging": {"level": "error", "format": "text"}, "controller": {"workers": 9},
                                "leaderElection": {"leaseSeconds": 60, "renewSeconds": 40, "retrySeconds": 5}})["containers"][0]["args"]
        for wanted in ("--qps=12.5", "--burst=40", "--log-level=error", "--log-format=text", "--workers=9", "--lease-seconds=60", "--renew-seconds=40",
                       "--retry-seconds=5"):
            self.assertIn(wanted, args)

    def test_pods_pass_the_restricted_standard(self):
        for spec in (self.deployment(), self.deployment(FULL), render()["Pod", "system", "anneal-test"]["spec"]):
            self.assertTrue(spec["securityContext"]["runAsNonRoot"])
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for container in spec["containers"]:
                self.assertEqual(container["securityContext"], {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                                "capabilities": {"drop": ["ALL"]}})

    def test_images(self):
        for image, wanted in (({}, "anneal-operator:0.1.0"), ({"registry": "r.example", "tag": "2"}, "r.example/anneal-operator:2"),
                              (FULL["image"], "registry.example/anneal-operator@sha256:" + "a" * 64)):
            self.assertEqual(self.deployment({"image": image})["containers"][0]["image"], wanted)
            self.assertEqual(render({"image": image})["Pod", "system", "anneal-test"]["spec"]["containers"][0]["image"], wanted)

    def test_alerts_and_dashboard_ask_for_metrics_that_the_operator_has(self):
        source = "".join((ROOT / file).read_text() for file in ("operator/kube/status_server.cpp", "worker/train/progress/progress.cpp"))
        objects = render(FULL)
        asked = str(objects["PrometheusRule", "system", "anneal"]) + objects["ConfigMap", "system", "anneal-dashboard"]["data"]["anneal-operator.json"]
        names = set(re.findall(r"\b(?:anneal|controller_runtime|rest_client|workqueue|leader_election|process)_[a-z_]+", asked))
        self.assertGreater(len(names), 8)
        for name in names:
            self.assertIn('"' + re.sub(r"_(bucket|sum|count)$", "", name) + '"', source)

    def test_wrong_values_are_refused_with_a_reason(self):
        for values, reason in REFUSED:
            with self.subTest(values):
                self.assertIn(reason, template(values, fails=True))


if __name__ == "__main__":
    unittest.main(verbosity=2)
