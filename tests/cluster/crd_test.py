"""What a real API server says to crds/*.yaml."""
import copy
import json

import kubernetes

KINDS = {"TrainJob": ("trainjobs", "atj"), "EvalJob": ("evaljobs", "aej"), "ExportJob": ("exportjobs", "axj")}
CPU = {"workers": {"gpusPerNode": 0}, "rendezvous": {"backend": "gloo"}}
SPECS = {
    "TrainJob": {"image": "worker:1", "config": {"inline": "model_config {}"}, **CPU},
    "EvalJob": {"source": {"trainJobRef": {"name": "m"}}, **CPU},
    "ExportJob": {"source": {"evalJobRef": {"name": "m"}}, "artifact": {"uri": "file:///out"}, **CPU},
}


def job(kind, name, **changes):
    """A minimal job; changes are laid over its spec, None removes a field."""
    spec = copy.deepcopy(SPECS[kind])
    merge(spec, changes)
    return {"apiVersion": "anneal.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def merge(target, changes):
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value


# kind, changes that break one rule, changes that keep it, message
VOLUME = {"name": "d", "mountPath": "/d"}
ONE_VOLUME = "exactly one of claimName, hostPath and ephemeralCache"
ONE_MATCHER = "exactly one of onExitCodes, onPodConditions and onReasons"
SECRET = {"secretRef": {"name": "s"}}
COMMON_RULES = [
    ({"workers": {"gpusPerNode": 0}, "rendezvous": {"backend": "nccl"}}, {"workers": {"gpusPerNode": 1}, "rendezvous": {"backend": "nccl"}},
     "workers without GPUs need rendezvous.backend gloo"),
    ({"workers": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}, {"workers": {"resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}},
     "GPUs are asked for with gpusPerNode, not in resources"),
    ({"workers": {"gpuResourceName": "a/b", "resources": {"requests": {"a/b": 1}}}}, {"workers": {"resources": {"requests": {"a/b": 1}}}},
     "GPUs are asked for with gpusPerNode, not in resources"),
    ({"data": {"volumes": [{**VOLUME, "claimName": "c", "hostPath": "/h"}]}}, {"data": {"volumes": [{**VOLUME, "hostPath": "/h"}]}}, ONE_VOLUME),
    ({"data": {"volumes": [VOLUME]}}, {"data": {"volumes": [{**VOLUME, "ephemeralCache": {"size": "1Gi"}}]}}, ONE_VOLUME),
    ({"data": {"credentials": [{**SECRET, "as": "File"}]}}, {"data": {"credentials": [{**SECRET, "as": "File", "mountPath": "/s"}]}},
     "mountPath is needed for File, and only there"),
    ({"data": {"credentials": [{**SECRET, "mountPath": "/s"}]}}, {"data": {"credentials": [SECRET]}}, "mountPath is needed for File, and only there"),
    ({"failurePolicy": {"rules": [{"action": "Fail"}]}}, {"failurePolicy": {"rules": [{"action": "Fail", "onReasons": ["OOMKilled"]}]}}, ONE_MATCHER),
    ({"failurePolicy": {"rules": [{"action": "Fail", "onReasons": ["x"], "onExitCodes": {"values": [1]}}]}},
     {"failurePolicy": {"rules": [{"action": "Fail", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}, ONE_MATCHER),
    ({"failurePolicy": {"backoff": {"initialSeconds": 9, "maxSeconds": 1}}}, {"failurePolicy": {"backoff": {"initialSeconds": 1, "maxSeconds": 1}}},
     "initialSeconds is at most maxSeconds"),
    ({"scheduling": {"gang": {"mode": "Kueue"}}}, {"scheduling": {"queueName": "q", "gang": {"mode": "Kueue"}}}, "gang.mode Kueue needs queueName"),
    ({"scheduling": {"queueName": "q", "gang": {"mode": "Volcano"}}}, {"scheduling": {"gang": {"mode": "Volcano", "queue": "q"}}},
     "queueName is Kueue's; for gang.mode Volcano set gang.queue"),
    ({"scheduling": {"gang": {"queue": "q"}}}, {"scheduling": {"queueName": "q"}}, "gang.queue belongs to gang.mode Volcano"),
]
TEMPLATE = {"volume": {"claimTemplate": {"size": "1Gi"}}}
CLAIM = {"volume": {"claimName": "c"}}
FOLDER = {"claimName": "c", "path": "r1/model.ckpt-9"}
ONE_BASELINE = "exactly one of evalJobRef and baselineConfigMap"
RULES = [(kind, *rule) for kind in KINDS for rule in COMMON_RULES] + [
    ("TrainJob", {"config": {"configMapRef": {"name": "c"}}}, {"config": {"inline": None, "configMapRef": {"name": "c"}}},
     "exactly one of inline and configMapRef"),
    ("TrainJob", {"config": {"inline": None}}, {}, "exactly one of inline and configMapRef"),
    ("TrainJob", {"checkpoint": {"volume": {}}}, {"checkpoint": CLAIM}, "exactly one of claimName and claimTemplate"),
    ("TrainJob", {"checkpoint": {"volume": {"claimName": "c", "claimTemplate": {"size": "1Gi"}}}}, {"checkpoint": TEMPLATE},
     "exactly one of claimName and claimTemplate"),
    ("TrainJob", {"checkpoint": {**CLAIM, "retention": "Delete"}}, {"checkpoint": {**TEMPLATE, "retention": "Delete"}},
     "retention Delete is for a claimTemplate: an existing claim is never deleted"),
    ("TrainJob", {"warmStart": {"previousRun": True}}, {"warmStart": {"previousRun": True}, "checkpoint": CLAIM},
     "warmStart.previousRun needs a checkpoint.volume"),
    ("TrainJob", {"warmStart": {"previousRun": True, "path": "/x"}, "checkpoint": CLAIM}, {"warmStart": {"path": "/x"}},
     "at most one of previousRun, path and trainJobRef"),
    ("TrainJob", {"workers": {"numNodes": 2}}, {"workers": {"numNodes": 2}, "checkpoint": CLAIM}, "several nodes need a shared checkpoint.volume"),
    ("TrainJob", {"artifacts": {"upload": {}}}, {"artifacts": {"upload": {"claimName": "c"}}}, "exactly one of uri and claimName"),
    ("TrainJob", {"artifacts": {"upload": {"claimName": "c", "s3": {}}}}, {"artifacts": {"upload": {"uri": "s3://b/x", "s3": {}}}},
     "s3 is for an s3:// uri"),
    ("EvalJob", {"gates": [{"metric": "auc"}]}, {"gates": [{"metric": "auc", "threshold": "0.7"}]}, "exactly one of threshold and relativeTo"),
    ("EvalJob", {"gates": [{"metric": "auc", "relativeTo": {}}]}, {"gates": [{"metric": "auc", "relativeTo": {"evalJobRef": {"name": "e"}}}]},
     ONE_BASELINE),
    ("EvalJob", {"gates": [{"metric": "auc", "relativeTo": {"evalJobRef": {"name": "e"}, "baselineConfigMap": {"name": "c", "key": "k"}}}]},
     {"gates": [{"metric": "auc", "relativeTo": {"baselineConfigMap": {"name": "c", "key": "k"}, "maxDrop": "0.001"}}]}, ONE_BASELINE),
    ("EvalJob", {"source": {"trainJobRef": None}}, {}, "exactly one of trainJobRef and checkpoint"),
    ("EvalJob", {"source": {"trainJobRef": None, "checkpoint": FOLDER}},
     {"source": {"trainJobRef": None, "checkpoint": FOLDER}, "image": "i:1", "config": {"inline": "x"}}, "source.checkpoint needs image and config"),
    ("ExportJob", {"source": {"evalJobRef": None, "checkpoint": FOLDER}},
     {"source": {"evalJobRef": None, "checkpoint": FOLDER}, "image": "i:1", "config": {"inline": "x"}}, "source.checkpoint needs image and config"),
    ("ExportJob", {"workers": {"numNodes": 2}}, {}, "an export runs in one pod"),
    ("ExportJob", {"source": {"trainJobRef": {"name": "t"}}}, {"source": {"evalJobRef": None, "trainJobRef": {"name": "t"}}},
     "exactly one of evalJobRef, trainJobRef and checkpoint"),
    ("ExportJob", {"source": {"evalJobRef": None}}, {}, "exactly one of evalJobRef, trainJobRef and checkpoint"),
    ("ExportJob", {"artifact": {"claimName": "c"}}, {"artifact": {"uri": None, "claimName": "c"}}, "exactly one of uri and claimName"),
    ("ExportJob", {"artifact": {"uri": "file:///x", "s3": {"region": "r"}}}, {"artifact": {"uri": "s3://b/x", "s3": {"region": "r"}}},
     "s3 is for an s3:// uri"),
    ("ExportJob", {"artifact": {"uri": None}}, {}, "exactly one of uri and claimName"),
]
# A rule on a change: what it says of a new object is nothing.
IMMUTABLE = ("TrainJob", "claimTemplate is immutable: the claim exists")


class CustomResources(kubernetes.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.install_kinds()

    def schema(self, kind):
        crd = self.get("crd", KINDS[kind][0] + ".anneal.dev")
        return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def dry_run(self, *objects, fails=False):
        return self.kubectl("create", "--dry-run=server", "-f", "-", stdin=self.text(*objects), fails=fails)

    def test_accepted_as_structural_and_small(self):
        for plural, short in KINDS.values():
            crd = self.get("crd", plural + ".anneal.dev")
            conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
            self.assertEqual((conditions["NamesAccepted"], conditions["Established"]), ("True", "True"))
            self.assertNotEqual(conditions.get("NonStructuralSchema"), "True", crd["status"])
            self.assertEqual(crd["status"]["acceptedNames"]["shortNames"], [short])
            self.assertLess((kubernetes.ROOT / f"crds/{plural}.yaml").stat().st_size, 60_000)

    def test_the_schema_is_stored_as_written(self):
        """A keyword that the server does not know would be dropped: an apply that names it again changes nothing."""
        out = self.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", kubernetes.ROOT / "crds")
        self.assertEqual(out.count("unchanged"), 3, out)

    def test_explain_describes_every_field(self):
        for kind, (plural, _) in KINDS.items():
            text = self.kubectl("explain", f"{plural}.spec", "--recursive")
            for field in ("workers", "rendezvous", "failurePolicy", "initialSeconds", "mountPath"):
                self.assertIn(field, text)
            for path in self.fields(self.schema(kind)["properties"]["spec"], "spec"):
                self.assertRegex(self.description(kind, path), r"\S", f"{kind} {path}")
        for path, words in {"trainjob.spec": "What to train and how", "trainjob.spec.failurePolicy.rules.onExitCodes": "Exit codes",
                            "evaljob.spec.gates.threshold": "threshold", "exportjob.spec.verify.maxAbsDiff": "difference"}.items():
            self.assertIn(words, self.kubectl("explain", path))

    def fields(self, schema, path):
        yield path
        for name, field in schema.get("properties", {}).items():
            yield from self.fields(field, f"{path}.{name}")
        if isinstance(schema.get("items"), dict) and schema["items"].get("type") == "object":
            yield from self.fields(schema["items"], path + "[]")

    def description(self, kind, path):
        """From the server's OpenAPI, which is what kubectl explain prints."""
        if not hasattr(type(self), "openapi"):
            type(self).openapi = json.loads(self.kubectl("get", "--raw", "/openapi/v3/apis/anneal.dev/v1alpha1"))
        at = next(s for s in self.openapi["components"]["schemas"].values()
                  if s.get("x-kubernetes-group-version-kind", [{}])[0].get("kind") == kind and "spec" in s.get("properties", {}))
        for part in path.split("."):
            at = at["properties"][part.removesuffix("[]")]
            if part.endswith("[]"):
                at = at["items"]
        return at.get("description", "")

    def test_defaults(self):
        spec = self.create(job("TrainJob", "defaults"))[0]["spec"]
        self.assertEqual(spec["workers"], {"numNodes": 1, "gpusPerNode": 0, "gpuResourceName": "nvidia.com/gpu", "shmSize": "16Gi",
                                           "terminationGracePeriodSeconds": 300, "hostNetwork": False})
        self.assertEqual(spec["rendezvous"], {"backend": "gloo", "port": 29500, "timeoutSeconds": 1800})
        self.assertEqual(spec["failurePolicy"], {"maxRestarts": 3, "backoff": {"initialSeconds": 10, "maxSeconds": 600, "resetAfterSeconds": 3600},
                                                 "avoidNodes": "Lost", "pendingTimeoutSeconds": 0, "progressTimeoutSeconds": 0, "nodeLostTimeoutSeconds": 300})
        self.assertEqual(spec["scheduling"], {"gang": {"mode": "None"}})
        self.assertEqual(spec["checkpoint"], {"modelDir": "/mnt/model", "retention": "Retain"})
        self.assertEqual(spec["updatePolicy"], {"finished": "Rerun", "running": "Queue"})
        self.assertEqual((spec["suspend"], spec["historyLimit"], spec["cleanup"]), (False, 5, {"podPolicy": "Running"}))
        spec = self.create(job("EvalJob", "defaults", gates=[{"metric": "auc", "threshold": "0.7"}]))[0]["spec"]
        self.assertEqual((spec["gates"][0]["op"], spec["trigger"]), ("GTE", "EachRun"))
        self.assertEqual(spec["source"]["trainJobRef"], {"name": "m", "run": "Latest", "checkpoint": "Latest"})
        spec = self.create(job("ExportJob", "defaults"))[0]["spec"]
        self.assertEqual((spec["format"], spec["verify"]), ("TorchScript", {"maxAbsDiff": "0.00001"}))

    def test_rules_refuse_the_bad_and_take_the_good(self):
        tested = set()
        for kind, bad, good, message in RULES:
            with self.subTest(kind=kind, message=message):
                self.assertIn(message, self.dry_run(job(kind, "rule", **bad), fails=True))
                self.dry_run(job(kind, "rule", **good))
                tested.add((kind, message))
        for kind in KINDS:
            for name in ("Upper", "1st", "a" * 41, "dot.ted"):
                self.assertRegex(self.dry_run(job(kind, name), fails=True), "metadata.name")
            self.dry_run(job(kind, "a" * 40))
            # Every rule of the schema has an example above.
            for message in self.messages(self.schema(kind)):
                if not message.startswith("metadata.name"):
                    self.assertIn((kind, message), tested | {IMMUTABLE})

    def test_a_claim_template_is_immutable(self):
        self.create(job("TrainJob", "claim", checkpoint=TEMPLATE))
        grow = json.dumps({"spec": {"checkpoint": {"volume": {"claimTemplate": {"size": "2Gi"}}}}})
        self.assertIn(IMMUTABLE[1], self.kubectl("patch", "atj", "claim", "--type=merge", "-p", grow, fails=True))
        self.kubectl("patch", "atj", "claim", "--type=merge", "-p", '{"spec":{"image":"worker:2"}}')

    def messages(self, schema):
        if isinstance(schema, list):
            for item in schema:
                yield from self.messages(item)
        if isinstance(schema, dict):
            for rule in schema.get("x-kubernetes-validations", []):
                yield rule["message"]
            for key, value in schema.items():
                if key != "x-kubernetes-validations":
                    yield from self.messages(value)

    def test_wrong_values_and_unknown_fields_are_named(self):
        for changes, words in (({"workers": {"gpusPerNode": 99}}, "spec.workers.gpusPerNode"), ({"workers": {"numNodes": "two"}}, "spec.workers.numNodes"),
                               ({"image": None}, "spec.image"), ({"cleanup": {"podPolicy": "Some"}}, 'supported values: "Running", "All", "None"'),
                               ({"workers": {"numNodess": 1}}, 'unknown field "spec.workers.numNodess"')):
            self.assertIn(words, self.dry_run(job("TrainJob", "wrong", **changes), fails=True))

    def test_examples_are_accepted(self):
        out = self.kubectl("create", "--dry-run=server", "-f", kubernetes.ROOT / "examples/movielens")
        for name in ("trainjob.anneal.dev/movielens", "evaljob.anneal.dev/movielens-gate", "exportjob.anneal.dev/movielens-export"):
            self.assertIn(name + " created", out)

    def test_short_names_columns_and_wait(self):
        self.create(job("TrainJob", "shown"))
        status = {"phase": "Running", "run": {"number": 2, "restarts": 1}, "workers": {"summary": "1/1"},
                  "progress": {"globalStep": 40, "percent": "50%", "loss": "0.5123", "auc": "0.7312"},
                  "conditions": [self.condition("Complete")]}
        self.kubectl("patch", "atj", "shown", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        lines = self.kubectl("get", "atj", "shown").splitlines()
        self.assertEqual(lines[0].split(), "NAME PHASE RUN WORKERS STEP PERCENT LOSS AUC RESTARTS AGE".split())
        self.assertEqual(lines[1].split()[:9], "shown Running 2 1/1 40 50% 0.5123 0.7312 1".split())
        self.kubectl("wait", "--for=condition=Complete", "--timeout=20s", "trainjob/shown")
        self.assertIn("timed out", self.kubectl("wait", "--for=condition=Failed", "--timeout=1s", "trainjob/shown", fails=True))
        columns = {"aej": "NAME PHASE RUN STEP AUC GATE RESTARTS AGE", "axj": "NAME PHASE RUN STEP FORMAT ARTIFACT RESTARTS AGE"}
        for (kind, (plural, short)) in list(KINDS.items())[1:]:
            self.create(job(kind, "shown"))
            self.assertEqual(self.kubectl("get", short, "shown").splitlines()[0].split(), columns[short].split())
        # All three by their category, and no name that another kind has.
        self.assertEqual(len([o for o in self.get("anneal")["items"] if o["metadata"]["name"] == "shown"]), 3)

    def condition(self, kind):
        return {"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}

    def test_status_is_a_subresource(self):
        """An apply from git can't touch status, and a status write can't touch the spec."""
        name = self.create({**job("TrainJob", "apart"), "status": {"phase": "Complete"}})[0]["metadata"]["name"]
        self.assertNotIn("phase", self.get("atj", name).get("status", {}))
        self.kubectl("patch", "atj", name, "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"},"spec":{"image":"other"}}')
        found = self.get("atj", name)
        self.assertEqual((found["status"]["phase"], found["spec"]["image"], found["metadata"]["generation"]), ("Running", "worker:1", 1))


if __name__ == "__main__":
    kubernetes.main()
