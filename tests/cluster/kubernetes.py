"""A test cluster for the length of a test class, and kubectl."""
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(__file__).with_name("cluster")
OPERATOR = pathlib.Path(os.environ["ANNEAL_BUILD"]) / "bin/anneal-operator"
SKIPPED = 77


class ClusterTest(unittest.TestCase):
    """Brings up a cluster in cls.dir; cluster.json, kubeconfig and logs are there. Skips where it can't."""
    tier, nodes = "cp", 1

    @classmethod
    def setUpClass(cls):
        cls.up()
        cls.addClassCleanup(cls.down)

    @classmethod
    def place(cls):
        cls.dir = pathlib.Path.cwd() / cls.__name__
        if cls.tier == "node":  # sockets below it: the path has to be short
            cls.dir = pathlib.Path("/tmp") / f"anneal-{zlib.crc32(str(cls.dir).encode()):08x}"
        cls.kubeconfig = cls.dir / "admin.kubeconfig"

    @classmethod
    def up(cls):
        cls.place()
        up = subprocess.run([TOOL, "up", "--dir", cls.dir, "--tier", cls.tier, "--nodes", str(cls.nodes)],
                            capture_output=True, text=True)
        if up.returncode == SKIPPED:
            raise unittest.SkipTest(up.stderr.strip())
        if up.returncode:
            raise AssertionError(up.stderr)
        print(up.stdout.splitlines()[0], file=sys.stderr)

    @classmethod
    def down(cls):
        subprocess.run([TOOL, "down", "--dir", cls.dir], check=True)

    @classmethod
    def kubectl(cls, *args, stdin=None, fails=False):
        """stdout; with fails=True the command has to fail, and stderr comes back."""
        done = subprocess.run([cls.dir / "bin/kubectl", *map(str, args)], input=stdin, capture_output=True, text=True,
                              env={**os.environ, "KUBECONFIG": str(cls.kubeconfig), "HOME": str(cls.dir)}, timeout=700)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"kubectl {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stderr if fails else done.stdout

    @classmethod
    def create(cls, *objects, fails=False):
        """The created objects as the server stored them, or the refusal."""
        if fails:
            return cls.kubectl("create", "-f", "-", stdin=cls.text(*objects), fails=True)
        return [json.loads(cls.kubectl("create", "-o", "json", "-f", "-", stdin=cls.text(o))) for o in objects]

    @staticmethod
    def text(*objects):
        """One object as it is: for a List kubectl checks the fields itself and the server is not asked."""
        return json.dumps(objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)})

    @classmethod
    def install_kinds(cls):
        cls.kubectl("apply", "-f", ROOT / "crds")
        cls.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")

    @classmethod
    def start_operator(cls, log):
        """Starts the operator as a process beside the cluster; whoever calls ends it."""
        return subprocess.Popen([OPERATOR, "serve", "--kubeconfig", cls.kubeconfig, "--metrics-address", "0", "--health-address",
                                 "127.0.0.1:0", "--no-leader-elect"], stderr=log)

    @classmethod
    def report(cls, pod, phase, state):
        """Says what a kubelet would say of a pod."""
        status = {"phase": phase, "containerStatuses": [{"name": "worker", "image": "x", "imageID": "x", "ready": phase == "Running",
                                                         "restartCount": 0, "state": state}]}
        cls.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    @classmethod
    def get(cls, *args):
        return json.loads(cls.kubectl("get", "-o", "json", *args))

    @classmethod
    def eventually(cls, condition, what, seconds=300):
        """Waits until condition() is true and returns what it gave. `what` may be a function, called on failure."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"after {seconds} s not yet: {what() if callable(what) else what}")


def main():
    """unittest.main, with exit code 77 if every test was skipped."""
    result = unittest.main(exit=False, verbosity=2).result
    if result.wasSuccessful() and result.skipped and result.testsRun == 0:
        print("SKIPPED:", result.skipped[0][1])
        sys.exit(SKIPPED)
    sys.exit(not result.wasSuccessful())
