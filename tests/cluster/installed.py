"""Two real nodes with the operator installed by Helm and the images loaded: what tests of whole jobs share.

One cluster serves all classes of a process. ANNEAL_KEEP_CLUSTER=1 leaves it up, and uses one that is up.
"""
import atexit
import json
import os
import pathlib
import subprocess
import unittest

import kubernetes

BUILD = pathlib.Path(os.environ["ANNEAL_BUILD"])
EXAMPLE = kubernetes.ROOT / "examples/movielens"
MOVIELENS = kubernetes.ROOT / ".deps/movielens/recbole/dataset_example/ml-100k"
KEEP = bool(os.environ.get("ANNEAL_KEEP_CLUSTER"))
IMAGES = ("operator", "worker", "python")
VOLUMES = 12


def tool(*command):
    """stdout of one of the tests' programs; its own "skipped" is ours."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode == kubernetes.SKIPPED:
        raise unittest.SkipTest(done.stderr.strip())
    if done.returncode:
        raise AssertionError(f"{command[0]}: exit {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout.strip()


class Installed(kubernetes.ClusterTest):
    tier, nodes = "node", 2
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if not hasattr(Installed, "images"):
            tool(kubernetes.TOOL, "check", "--tier", "node")
            Installed.images = pathlib.Path(tool(kubernetes.ROOT / "tests/images/build", BUILD, *IMAGES))
            Installed.helm_program = tool(kubernetes.TOOL, "build", "helm") + "/helm"
            Installed.prepare()

    @staticmethod
    def prepare():
        """Brings everything up, once."""
        Installed.place()
        if KEEP and (Installed.dir / "ready").exists():
            return
        if not KEEP:
            atexit.register(Installed.down)
        Installed.up()
        tool(kubernetes.TOOL, "load", "--dir", Installed.dir, *(Installed.images / f"{name}.tar" for name in IMAGES))
        for node in ("node1", "node2"):
            Installed.give_gpus(node, 1)
        Installed.make_volumes()
        Installed.helm("install", "anneal", kubernetes.ROOT / "charts/anneal", "--namespace", "system", "--create-namespace",
                       "--set", "controller.progressSeconds=1", "--wait", "--timeout", "600s")
        Installed.kubectl("apply", "-f", EXAMPLE / "cluster")
        (Installed.dir / "ready").touch()

    @classmethod
    def helm(cls, *args):
        return tool("env", f"KUBECONFIG={cls.kubeconfig}", f"HOME={cls.dir}", cls.helm_program, *args)

    @classmethod
    def give_gpus(cls, node, count):
        """A device that the scheduler counts; nothing in the container looks at it."""
        add = [{"op": "add", "path": f"/status/{field}/nvidia.com~1gpu", "value": str(count)} for field in ("capacity", "allocatable")]
        cls.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(add))

    @classmethod
    def make_volumes(cls):
        """Folders that both nodes see and that any user may write to, as a network file system's exports."""
        for number in range(VOLUMES):
            folder = cls.dir / f"volumes/{number}"
            folder.mkdir(parents=True)
            folder.chmod(0o777)
            cls.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"shared-{number}"},
                        "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "standard",
                                 "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": str(folder)}}})

    @classmethod
    def folder(cls, claim):
        """Where a bound claim's files are on this machine."""
        volume = cls.eventually(lambda: cls.get("pvc", claim)["spec"].get("volumeName"), f"claim {claim} bound")
        return pathlib.Path(cls.get("pv", volume)["spec"]["hostPath"]["path"])

    @classmethod
    def status(cls, kind, name):
        return cls.get(kind, name).get("status", {})

    @classmethod
    def condition(cls, kind, name, type):
        found = [c for c in cls.status(kind, name).get("conditions", []) if c["type"] == type]
        return found[0] if found else {}

    @classmethod
    def pods(cls, job):
        """The job's pods that are not being deleted, by worker number."""
        items = cls.get("pods", "--selector", f"anneal.dev/job-name={job}")["items"]
        return {int(p["metadata"]["labels"]["anneal.dev/index"]): p for p in items if "deletionTimestamp" not in p["metadata"]}

    def events(self, job, *reasons, namespace="default"):
        """`kubectl describe` shows Events of these reasons; they come a moment after the status."""
        def told():
            return self.kubectl("describe", job, "--namespace", namespace).partition("\nEvents:")[2]
        self.eventually(lambda: all(f" {reason} " in told() for reason in reasons), lambda: f"Events {reasons} of {job}: {told()}", 60)

    def ends(self, kind, name, phase="Complete", seconds=600):
        """Waits until the job is in a last phase, which has to be that one; its status."""
        def over():
            status = self.status(kind, name)
            return status if status.get("phase") in ("Complete", "Failed") else None
        status = self.eventually(over, lambda: f"{kind} {name} over: {self.status(kind, name)}\n{self.logs(name)}", seconds)
        self.assertEqual(status["phase"], phase, json.dumps(status, indent=1) + self.logs(name))
        return status

    def logs(self, job):
        found = subprocess.run([self.dir / "bin/kubectl", "--kubeconfig", self.kubeconfig, "logs", "--selector", f"anneal.dev/job-name={job}",
                                "--tail", "30", "--prefix"], capture_output=True, text=True)
        return found.stdout + found.stderr
