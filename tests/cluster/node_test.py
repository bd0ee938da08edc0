"""Tier node: pods on two nodes reach each other by Service name; down leaves nothing behind."""
import json
import pathlib
import subprocess

import kubernetes


def pod(name, node, *args):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "c", "image": "anneal.test/probe:1", "args": list(args)}]}}


class TwoNodes(kubernetes.ClusterTest):
    tier, nodes = "node", 2

    def test_pods_and_what_down_leaves(self):
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
                   "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}}
        self.create(service, pod("server", "node1", "serve", ":8080"),
                    pod("client", "node2", "get", "http://server.default.svc.cluster.local/"))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=90s")
        self.assertEqual(self.kubectl("logs", "client"), "server\n")

        slot = json.loads((self.dir / "cluster.json").read_text())["Net"]["Slot"]
        subprocess.run([kubernetes.TOOL, "down", "--dir", self.dir], check=True)
        self.assertFalse(self.dir.exists())
        self.assertNotIn(f"anneal{slot}:", subprocess.run(["ip", "link"], capture_output=True, text=True).stdout)
        self.assertNotIn(str(self.dir), pathlib.Path("/proc/mounts").read_text())
        self.assertEqual(list(pathlib.Path("/sys/fs/cgroup").glob(f"*/anneal{slot}-node*")), [])
        self.assertEqual([p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if self.runs_here(p)], [])

    def runs_here(self, cmdline):
        try:
            return str(self.dir).encode() in cmdline.read_bytes()
        except OSError:
            return False


if __name__ == "__main__":
    kubernetes.main()
