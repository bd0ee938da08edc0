"""A real S3 server (moto) in the cluster that checks signatures, and what an ExportJob has put into it."""
import hashlib
import json
import sys

import kubernetes

sys.path.append(str(kubernetes.ROOT / "tests/e2e"))
import s3_server  # noqa: E402

PACKAGES = kubernetes.ROOT.resolve() / ".deps/python"
PORT = 9000
# Found by name from the pods; moto takes such a host for one that names its buckets in the path.
ENDPOINT = f"http://store.default.svc.cluster.local:{PORT}"


def pod():
    """moto from the tests' pinned packages, on an image that has Python."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "store", "labels": {"app": "store"}},
            "spec": {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
                     "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
                     "containers": [{
                         "name": "moto", "image": "anneal.test/python:1",
                         "command": ["python3", "-W", "ignore", "-c", f"from moto.server import main; main(['-H', '0.0.0.0', '-p', '{PORT}'])"],
                         "env": [{"name": "PYTHONPATH", "value": "/packages"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
                                 {"name": "INITIAL_NO_AUTH_ACTION_COUNT", "value": str(s3_server.SETUP_CALLS)}],
                         "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                         "volumeMounts": [{"name": "packages", "mountPath": "/packages", "readOnly": True}]}],
                     "volumes": [{"name": "packages", "hostPath": {"path": str(PACKAGES.resolve())}}]}}


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"},
           "spec": {"selector": {"app": "store"}, "ports": [{"port": PORT}]}}


class Store:
    """The server with a bucket and a user of it, seen from outside the cluster."""

    bucket = "models"

    def __init__(self, cluster):
        cluster.kubectl("delete", "pod/store", "service/store", "--ignore-not-found")  # of a cluster that was kept
        cluster.create(pod(), SERVICE)
        cluster.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=300s")
        address = cluster.get("pod", "store")["status"]["podIP"]
        self.access_key, self.secret_key, self.s3 = s3_server.prepare(f"http://{address}:{PORT}", self.bucket)

    def keys(self):
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def read(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def download(self, prefix, folder):
        """The version that `latest` names, into the folder; every byte checked against its manifest. The pointer."""
        latest = json.loads(self.read(f"{prefix}/latest"))
        text = self.read(f"{prefix}/{latest['path']}/MANIFEST.json")
        assert hashlib.sha256(text).hexdigest() == latest["sha256"], "latest does not name this manifest"
        for file in json.loads(text)["files"]:
            content = self.read(f"{prefix}/{latest['path']}/{file['path']}")
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"]), file["path"]
            path = folder / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return latest
