"""What goes wrong on a cluster, and the documented state that each fault ends in (docs/operator.md, "Troubleshooting")."""
import contextlib
import copy
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import kubernetes
from installed import BUILD, EXAMPLE, Installed

IMAGE = "anneal-worker:0.1.0"
ONE_A_NODE = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
    {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                                        "labelSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "anneal-operator"}}}}]}}


QUICK = {"data_config.batch_size": "4096", "train_config.num_epochs": "1"}


def train_job(name, spec=None, edits=None):
    """Two workers on the example's data; no shuffling, so that a resumed run is to the last bit the undisturbed one."""
    job = {"apiVersion": "anneal.dev/v1alpha1", "kind": "TrainJob", "metadata": {"name": name}, "spec": {
        "image": IMAGE,
        "config": {"configMapRef": {"name": "movielens-config"},
                   "edits": {"data_config.shuffle": "false", "train_config.save_checkpoints_epochs": "0",
                             "train_config.save_checkpoints_steps": "20", "train_config.num_epochs": "3", **(edits or {})}},
        "workers": {"numNodes": 2, "gpusPerNode": 0, "shmSize": "64Mi", "affinity": ONE_A_NODE},
        # Kernels that are chosen by measuring round otherwise on another start.
        "rendezvous": {"backend": "gloo", "env": [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "USE_DETERMINISTIC_ALGORITHMS", "value": "1"}]},
        "data": {"trainInputPath": "/data/train.parquet", "evalInputPath": "/data/eval.parquet",
                 "volumes": [{"name": "ratings", "mountPath": "/data", "claimName": "movielens-data"}]},
        "checkpoint": {"modelDir": f"/mnt/{name}", "volume": {"claimName": "faults", "subPath": name}},
        "failurePolicy": {"backoff": {"initialSeconds": 1}}}}
    for block, fields in (spec or {}).items():
        job["spec"][block] = {**job["spec"].get(block, {}), **fields} if isinstance(fields, dict) else fields
    return job


def processes(*words, without="\n"):
    """pids of this machine whose command line holds all words and not that one."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().decode(errors="replace").split("\0")
            if all(any(word in part for part in line) for word in words) and without not in line:
                found.append(int(entry.parent.name))
    return found


class Faults(Installed):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kubectl("apply", "-f", EXAMPLE / "configmap.yaml")
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "faults"},
                 "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}}
        cls.kubectl("apply", "-f", "-", stdin=cls.text(claim))
        cls.kubectl("wait", "--for=condition=Complete", "job/movielens-data", "--timeout=600s")

    def start(self, name, spec=None, edits=None):
        shutil.rmtree(self.folder("faults") / name, ignore_errors=True)  # of an earlier test on a cluster that was kept
        self.create(train_job(name, spec, edits))
        self.addCleanup(self.kubectl, "delete", "trainjob", name, "--ignore-not-found")

    def result(self, name):
        progress = self.status("trainjob", name)["progress"]
        return progress["globalStep"], progress["loss"], progress["auc"]

    def undisturbed(self):
        """What the job comes to when nothing happens to it."""
        if not hasattr(Faults, "reference"):
            self.start("undisturbed")
            self.assertEqual(self.ends("trainjob", "undisturbed")["run"]["restarts"], 0)
            Faults.reference = self.result("undisturbed")
        return Faults.reference

    def checkpoint(self, name):
        """Waits until the run can be resumed."""
        run = self.eventually(lambda: self.status("trainjob", name).get("run"), f"a run of {name}")
        folder = self.folder("faults") / name / run["id"]
        self.eventually(lambda: list(folder.glob("model.ckpt-*/manifest.json")), lambda: f"a checkpoint of {name}: {self.status('trainjob', name)}\n{self.logs(name)}")

    def problem(self, name, reason):
        """Waits until the job says that it restarts for that reason; what it says."""
        def said():
            found = [p for p in self.status("trainjob", name).get("problems", []) if p["reason"] == reason]
            return found[0]["message"] if found else None
        message = self.eventually(said, lambda: f"problem {reason} of {name}: {self.status('trainjob', name)}")
        self.events(f"trainjob/{name}", reason)
        return message

    def waits(self, name, reason, namespace="default"):
        """Waits until WorkersReady is false for that reason; what it says."""
        def said():
            conditions = self.get("trainjob", name, "--namespace", namespace).get("status", {}).get("conditions", [])
            found = [c for c in conditions if c["type"] == "WorkersReady" and c["reason"] == reason]
            return found[0]["message"] if found else None
        message = self.eventually(said, f"{name} waits for {reason}")
        self.events(f"trainjob/{name}", reason, namespace=namespace)
        return message

    def fails(self, name, reason):
        """Waits until the job has failed for that reason; what it says."""
        failure = self.ends("trainjob", name, "Failed")["failure"]
        self.assertEqual(failure["reason"], reason)
        self.events(f"trainjob/{name}", reason)
        return failure["message"]

    def resumes(self, name, counted):
        """The run ends as if nothing had happened: one restart of all workers, from a checkpoint."""
        run = self.ends("trainjob", name)["run"]
        self.assertEqual((run["number"], run["attempt"], run["restarts"], run.get("countedRestarts", 0)), (1, 2, 1, counted))
        self.assertEqual(self.result(name), self.undisturbed())
        self.assertEqual(sorted(self.pods(name)), [0, 1])
        for pod in self.pods(name).values():
            self.assertEqual(pod["metadata"]["labels"]["anneal.dev/attempt"], "2")
        log = self.kubectl("logs", f"{name}-r1-a2-w0")
        self.assertRegex(log, r"model\.ckpt-[1-9]")

    # --- workers that die ---

    def test_a_killed_worker_process(self):
        self.undisturbed()
        self.start("killed")
        self.checkpoint("killed")
        os.kill(processes("/mnt/killed/r1", without="launch")[0], signal.SIGKILL)
        self.assertIn("exit code 137", self.problem("killed", "WorkerFailed"))
        self.resumes("killed", counted=1)

    def test_a_deleted_pod(self):
        self.undisturbed()
        self.start("deleted")
        self.checkpoint("deleted")
        self.kubectl("delete", "pod", "deleted-r1-a1-w1", "--wait=false")
        self.assertIn("deleted from outside", self.problem("deleted", "PodDeleted"))
        self.resumes("deleted", counted=0)

    def test_a_drained_node(self):
        self.undisturbed()
        self.start("drained", {"workers": {"gpusPerNode": 1}})
        self.checkpoint("drained")
        self.addCleanup(self.kubectl, "uncordon", "node2")
        self.kubectl("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=600s",
                     "--pod-selector", "anneal.dev/job-name=drained")
        self.assertIn("2 nodes", self.waits("drained", "Unschedulable"))
        self.kubectl("uncordon", "node2")
        self.resumes("drained", counted=0)

    def test_a_lost_node(self):
        self.undisturbed()
        self.start("lost", {"failurePolicy": {"nodeLostTimeoutSeconds": 5}})
        self.checkpoint("lost")
        self.assertEqual({pod["spec"]["nodeName"] for pod in self.pods("lost").values()}, {"node1", "node2"})
        kubelet = int((self.dir / "pids/node2-kubelet").read_text().split()[0])
        # The machine is gone: neither kubelet nor worker does anything any more.
        workers = [pid for pid in processes("/mnt/lost/r1") if f"{self.node_of(pid)}" == "node2"]
        for pid in (kubelet, *workers):
            os.kill(pid, signal.SIGSTOP)
        try:
            self.assertIn("node node2 is silent", self.problem("lost", "NodeLost"))
            run = self.ends("trainjob", "lost")["run"]
        finally:
            for pid in (kubelet, *workers):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.kubectl("wait", "--for=condition=Ready", "node/node2", "--timeout=600s")
        self.assertEqual((run["attempt"], run.get("countedRestarts", 0)), (2, 0))
        self.assertEqual(self.result("lost"), self.undisturbed())
        self.assertEqual({pod["spec"]["nodeName"] for pod in self.pods("lost").values()}, {"node1"})

    def node_of(self, pid):
        """The node whose cgroup a process is in."""
        text = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
        return next((node for node in ("node1", "node2") if f"-{node}/" in text), None)

    def test_a_preempted_worker(self):
        self.undisturbed()
        self.start("preempted", {"workers": {"gpusPerNode": 1}})
        self.checkpoint("preempted")
        self.create({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}, "value": 1000})
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent"},
                     "spec": {"priorityClassName": "urgent", "terminationGracePeriodSeconds": 1,
                              "containers": [{"name": "c", "image": "anneal.test/probe:1", "args": ["pause"],
                                              "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}})
        self.addCleanup(self.kubectl, "delete", "pod/urgent", "priorityclass/urgent", "--ignore-not-found")
        self.assertIn("preempt", self.problem("preempted", "PreemptionByScheduler"))
        self.assertIn("nvidia.com/gpu", self.waits("preempted", "Unschedulable"))
        self.kubectl("delete", "pod", "urgent")
        self.resumes("preempted", counted=0)

    def test_out_of_memory(self):
        self.start("hungry", {"workers": {"numNodes": 1, "resources": {"limits": {"memory": "100Mi"}}}})
        self.assertIn("raise workers.resources.limits.memory", self.fails("hungry", "OutOfMemory"))

    # --- what never starts ---

    def test_a_wrong_image_and_its_correction(self):
        self.start("unpulled", {"image": "anneal-worker:none", "workers": {"numNodes": 1}}, QUICK)
        self.assertIn("check spec.image", self.waits("unpulled", "ImagePullError"))
        self.kubectl("patch", "trainjob", "unpulled", "--type=merge", "-p", json.dumps({"spec": {"image": IMAGE}}))
        self.assertEqual(self.ends("trainjob", "unpulled")["run"]["number"], 2)

    def test_a_wrong_image_that_nobody_corrects(self):
        self.start("forgotten", {"image": "anneal-worker:none", "workers": {"numNodes": 1},
                                 "failurePolicy": {"pendingTimeoutSeconds": 5}})
        self.assertIn("check spec.image", self.fails("forgotten", "PendingTimeout"))
        self.assertEqual(self.pods("forgotten"), {})

    def test_a_wrong_config(self):
        self.start("misspelt", edits={"train_config.num_epochz": "1"})
        self.assertIn("num_epochs", self.fails("misspelt", "ConfigInvalid"))
        self.assertEqual(self.pods("misspelt"), {})

    def test_a_missing_claim(self):
        self.start("claimless", {"workers": {"numNodes": 1}, "checkpoint": {"volume": {"claimName": "nowhere"}}}, QUICK)
        said = self.waits("claimless", "Unschedulable")
        self.assertIn('persistentvolumeclaim "nowhere" not found', said)
        self.assertIn("the claims are bound", said)
        self.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "nowhere"},
                     "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}})
        self.assertEqual(self.ends("trainjob", "claimless")["run"]["restarts"], 0)

    def test_a_full_quota(self):
        self.kubectl("create", "namespace", "small")
        self.addCleanup(self.kubectl, "delete", "namespace", "small", "--wait=false")
        self.kubectl("create", "quota", "pods", "--hard=pods=1", "--namespace", "small")
        config = self.get("configmap", "movielens-config")
        self.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "movielens-config", "namespace": "small"}, "data": config["data"]})
        job = train_job("limited", {"checkpoint": {"volume": None}})
        del job["spec"]["checkpoint"], job["spec"]["data"]
        job["metadata"]["namespace"] = "small"
        job["spec"]["checkpoint"] = {"volume": {"claimTemplate": {"size": "1Gi"}}}
        self.create(job)
        said = self.waits("limited", "QuotaExceeded", "small")
        self.assertIn("exceeded quota: pods", said)
        self.assertIn("raise the namespace's ResourceQuota", said)
        self.kubectl("patch", "quota", "pods", "--namespace", "small", "--type=merge", "-p", '{"spec": {"hard": {"pods": "2"}}}')
        self.eventually(lambda: len(self.get("pods", "--namespace", "small")["items"]) == 2, "both workers")

    # --- the operator ---

    def test_the_operator_killed_fifty_times(self):
        """kill -9 at random (seeded) moments of a chain of jobs: each run is worked off once, no pod is made twice."""
        self.kubectl("scale", "deployment/anneal", "--namespace", "system", "--replicas=0")
        self.addCleanup(self.kubectl, "rollout", "status", "deployment/anneal", "--namespace", "system", "--timeout=600s")
        self.addCleanup(self.kubectl, "scale", "deployment/anneal", "--namespace", "system", "--replicas=1")
        self.eventually(lambda: not processes("anneal-operator", "serve"), "the installed operator gone")
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"][0]["user"] = {"token": self.kubectl("create", "token", "anneal", "--namespace", "system").strip()}
        kubeconfig = self.dir / "operator.kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        log = open(self.dir / "operator.log", "w")
        self.addCleanup(log.close)
        command = [BUILD / "bin/anneal-operator", "serve", "--kubeconfig", kubeconfig, "--no-leader-elect", "--metrics-address", "0",
                   "--health-address", "127.0.0.1:0", "--progress-seconds", "1"]
        events = open(self.dir / "pods.log", "w")
        self.addCleanup(events.close)
        watch = subprocess.Popen([self.dir / "bin/kubectl", "--kubeconfig", self.kubeconfig, "get", "pods", "--watch-only", "--output-watch-events",
                                  "-o", 'jsonpath={.type} {.object.metadata.name} {.object.metadata.uid} {.object.status.phase}{"\\n"}'],
                                 stdout=events)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)

        self.create(*self.chain())
        self.addCleanup(self.kubectl, "delete", "trainjob/chain", "evaljob/chain-gate", "exportjob/chain-export")
        random.seed(4)
        kills = runs = 0
        requested = 1
        while kills < 50 or runs < requested:
            operator = subprocess.Popen([str(word) for word in command], stderr=log)
            time.sleep(random.uniform(0.02, 2.0 if kills < 50 else 20.0))  # in the end it may get on, on the slowest machine
            operator.kill()
            operator.wait()
            kills += 1
            status = self.status("exportjob", "chain-export")
            runs = status["run"]["inputs"]["run"] if status.get("phase") == "Complete" else runs
            if runs == requested and kills < 50:
                requested += 1
                self.kubectl("annotate", "trainjob", "chain", "--overwrite", f"anneal.dev/run-requested-at={requested}")
            self.assertLess(kills, 300, f"{runs} of {requested} runs finished")
        print(f"{kills} kills, {runs} runs of the chain", flush=True)
        for kind, name in (("trainjob", "chain"), ("evaljob", "chain-gate"), ("exportjob", "chain-export")):
            run = self.status(kind, name)["run"]
            self.assertEqual((run["number"], run["attempt"], run.get("restarts", 0)), (requested, 1, 0), name)
        self.no_pod_was_doubled((self.dir / "pods.log").read_text(), requested)

    def chain(self):
        train = train_job("chain", {"workers": {"numNodes": 1}}, QUICK)
        common = {key: train["spec"][key] for key in ("workers", "rendezvous")}
        data = {"volumes": train["spec"]["data"]["volumes"]}
        return (train,
                {"apiVersion": train["apiVersion"], "kind": "EvalJob", "metadata": {"name": "chain-gate"},
                 "spec": {**copy.deepcopy(common), "data": {**data, "evalInputPath": "/data/test.parquet"},
                          "source": {"trainJobRef": {"name": "chain"}}, "gates": [{"metric": "auc", "op": "GTE", "threshold": "0.3"}]}},
                {"apiVersion": train["apiVersion"], "kind": "ExportJob", "metadata": {"name": "chain-export"},
                 "spec": {**copy.deepcopy(common), "data": data, "source": {"evalJobRef": {"name": "chain-gate"}}, "format": "TorchScript",
                          "verify": {"inputPath": "/data/test.parquet"}, "artifact": {"claimName": "movielens-artifacts", "path": "chain"}}})

    def no_pod_was_doubled(self, events, runs):
        uids, live = {}, {}
        for line in events.splitlines():
            type, name, uid, phase = (line.split() + [""])[:4]
            if not name.startswith("chain"):
                continue
            uids.setdefault(name, set()).add(uid)
            job = name.rsplit("-r", 1)[0]
            over = type == "DELETED" or phase in ("Succeeded", "Failed")
            (live.setdefault(job, set()).discard if over else live.setdefault(job, set()).add)(uid)
            self.assertLessEqual(len(live[job]), 1, f"two workers of {job} at once: {events}")
        wanted = {f"{job}-r{run}-a1-w0" for job in ("chain", "chain-gate", "chain-export") for run in range(1, runs + 1)}
        self.assertEqual(set(uids), wanted)
        self.assertEqual({name: len(made) for name, made in uids.items()}, dict.fromkeys(wanted, 1))


if __name__ == "__main__":
    kubernetes.main()
