"""Publishing to S3 and to folders: whole or not at all, whatever breaks on the way."""
import hashlib
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import threading
import time
import unittest

from harness import ANNEAL, Case
from s3_server import S3, error

MIB = 1 << 20


class Publish(Case):
    @classmethod
    def setUpClass(cls):
        cls.s3 = S3(pathlib.Path.cwd())

    @classmethod
    def tearDownClass(cls):
        cls.s3.stop()

    def setUp(self):
        super().setUp()
        self.s3.fault = None
        self.prefix = self.id().rsplit(".", 1)[1]

    def export(self, step, sizes=(3, 2000, 22 * MIB, 6 * MIB, 70000)):
        """A folder as `anneal export` leaves it, its content decided by the step."""
        folder = self.dir / f"export{step}"
        (folder / "aoti").mkdir(parents=True)
        content = random.Random(step)
        for number, size in enumerate(sizes):
            name = f"aoti/part{number}.bin" if number % 2 else f"part{number}.bin"
            (folder / name).write_bytes(content.randbytes(size))
        (folder / "pipeline.config").write_text('model_dir: "x"\n')
        (folder / "export_report.json").write_text(json.dumps(
            {"format": "TorchScript", "step": step, "metrics": {"auc": 0.75}, "max_abs_diff": 1e-7,
             "config_sha256": hashlib.sha256((folder / "pipeline.config").read_bytes()).hexdigest(), "passed": True}))
        return folder

    def environment(self, **changes):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {**kept, "AWS_ACCESS_KEY_ID": self.s3.access_key, "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
                "AWS_EC2_METADATA_DISABLED": "true", **changes}

    def command(self, folder, uri=None):
        return [str(ANNEAL), "publish", str(folder), "--publish_uri", uri or f"s3://{self.s3.bucket}/{self.prefix}", "--s3_endpoint", self.s3.endpoint]

    def publish(self, folder, expect=0, env=None, uri=None):
        self.s3.requests.clear()
        done = subprocess.run(self.command(folder, uri), env=env or self.environment(), capture_output=True, text=True, timeout=240, cwd=self.dir)
        text = done.stdout + done.stderr
        self.assertNotIn(self.s3.secret_key, text)
        self.assertEqual(done.returncode, expect, text[-3000:])
        return text

    def stored(self):
        return {key[len(self.prefix) + 1:]: value for key, value in self.s3.objects().items() if key.startswith(self.prefix + "/")}

    def pointer(self):
        stored = self.stored()
        return json.loads(stored["latest"]) if "latest" in stored else None

    def check_published(self, folder, step):
        """The pointer names a whole version of this folder."""
        stored = self.stored()
        pointer = json.loads(stored["latest"])
        text = stored[pointer["path"] + "/MANIFEST.json"]
        self.assertEqual(hashlib.sha256(text).hexdigest(), pointer["sha256"])
        manifest = json.loads(text)
        self.assertEqual(manifest["step"], step)
        self.assertEqual(manifest["metrics"], {"auc": 0.75})
        self.assertEqual(manifest["config_sha256"], hashlib.sha256((folder / "pipeline.config").read_bytes()).hexdigest())
        self.assertRegex(manifest["torch"], r"^2\.")
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.assertEqual({file["path"] for file in manifest["files"]}, set(files))
        for file in manifest["files"]:
            content = files[file["path"]]
            self.assertEqual(file["bytes"], len(content))
            self.assertEqual(file["sha256"], hashlib.sha256(content).hexdigest())
            self.assertEqual(stored[pointer["path"] + "/" + file["path"]], content, file["path"])

    def test_parts_travel_side_by_side_and_the_pointer_comes_last(self):
        folder = self.export(7)
        self.s3.most_active = 0
        self.publish(folder)
        self.check_published(folder, 7)
        self.assertGreater(sum("partNumber=" in request.path for request in self.s3.requests), 2)
        self.assertGreater(self.s3.most_active, 1)
        writes = [request for request in self.s3.requests if request.method in ("PUT", "POST")]
        self.assertTrue(writes[-1].path.endswith("/latest"), writes[-1].path)
        self.assertTrue(writes[-2].path.endswith("/MANIFEST.json"), writes[-2].path)
        # Again: nothing but the manifest and the pointer is written.
        self.publish(folder)
        self.assertEqual({key.rsplit("/", 1)[1] for key in self.s3.written()}, {"MANIFEST.json", "latest"})
        newer = self.export(8)
        self.publish(newer)
        self.check_published(newer, 8)
        self.assertEqual(len({key.split("/")[1] for key in self.stored() if key.startswith("versions/")}), 2)

    def test_credentials_of_a_file(self):
        folder = self.export(1, sizes=(10,))
        file = self.dir / "credentials"
        file.write_text(f"[default]\naws_access_key_id = {self.s3.access_key}\naws_secret_access_key = {self.s3.secret_key}\n")
        environment = self.environment(AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_ENDPOINT_URL_S3=self.s3.endpoint)
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        self.publish(folder, env=environment)
        self.check_published(folder, 1)

    def test_errors_that_pass_are_survived(self):
        folder = self.export(2)
        seen = {}

        def the_third_try_succeeds(request):
            with self.s3.lock:
                tries = seen[request.method, request.path] = seen.get((request.method, request.path), 0) + 1
            return error(500 if tries == 1 else 503, "InternalError", "try again") if tries <= 2 else None

        self.s3.fault = the_third_try_succeeds
        self.publish(folder)
        self.s3.fault = None
        self.check_published(folder, 2)

    def test_cut_connections_are_survived(self):
        folder = self.export(3)
        cut = []

        def cut_some(request):
            with self.s3.lock:
                if request.method == "PUT" and len(cut) < 5:
                    cut.append(request.path)
                    return "cut"
            return None

        self.s3.fault = cut_some
        self.publish(folder)
        self.assertEqual(len(cut), 5)
        self.check_published(folder, 3)

    def test_a_slow_store_shows_progress(self):
        """The largest file arrives late: a line says how far it is. What is still on its way does not count."""
        folder = self.export(4)
        started = []

        def hold_the_end(request):
            started.append(time.monotonic())
            if request.method == "POST" and "uploadId=" in request.path:  # the end of the file of 22 MiB
                time.sleep(max(0.0, started[0] + 2.5 - time.monotonic()))

        self.s3.fault = hold_the_end
        text = self.publish(folder)
        lines = [float(done) for done in re.findall(r"Publishing: \d+ %, ([\d.]+) of 28\.1 MiB, [\d.]+ MiB/s", text)]
        self.assertTrue(lines, text)
        for done in lines:
            self.assertTrue(done >= 22 or done <= 6.1, lines)
        self.check_published(folder, 4)

    def test_a_broken_store_leaves_the_old_version(self):
        old = self.export(5, sizes=(100,))
        self.publish(old)
        new = self.export(6)
        self.s3.fault = lambda request: error(500, "InternalError", "broken") if request.method in ("PUT", "POST") else None
        text = self.publish(new, expect=75)
        self.assertIn(f"cannot write s3://{self.s3.bucket}/{self.prefix}/versions/6-", text)
        self.check_published(old, 5)
        self.s3.fault = None
        self.publish(new)
        self.check_published(new, 6)

    def test_a_full_store_says_so(self):
        full = "Storage backend has reached its minimum free drive threshold."
        self.s3.fault = lambda request: error(507, "XMinioStorageFull", full) if request.method == "PUT" else None
        text = self.publish(self.export(9, sizes=(100,)), expect=75)
        self.assertIn(full, text)
        self.assertIsNone(self.pointer())

    def test_wrong_credentials_are_named_without_secrets(self):
        folder = self.export(10, sizes=(100,))
        for changes in ({"AWS_SECRET_ACCESS_KEY": "not/The+secret0123456789"}, {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000"}):
            text = self.publish(folder, expect=64, env=self.environment(**changes))
            self.assertIn("the store refuses these credentials", text)
            for secret in changes.values():
                self.assertNotIn(secret, text)
        nobody = self.environment()
        del nobody["AWS_ACCESS_KEY_ID"], nobody["AWS_SECRET_ACCESS_KEY"]
        nobody["AWS_SHARED_CREDENTIALS_FILE"] = "/nowhere"
        self.assertIn("there are no credentials for s3://models/", self.publish(folder, expect=64, env=nobody))
        self.assertEqual(self.s3.requests, [])
        missing = self.publish(folder, expect=64, uri="s3://no-such-bucket/x")
        self.assertIn("no-such-bucket", missing)
        self.assertIsNone(self.pointer())

    def test_killed_anywhere_it_keeps_the_old_version_and_finishes_when_run_again(self):
        old = self.export(20, sizes=(100,))
        self.publish(old)
        new = self.export(21)
        for kill_after in (1, 2, 3):  # uploads
            reached = threading.Event()

            def count(request):
                time.sleep(0.1)
                if sum(entry.method == "PUT" for entry in list(self.s3.requests)) >= kill_after:
                    reached.set()

            self.s3.requests.clear()
            self.s3.fault = count
            run = subprocess.Popen(self.command(new), env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir)
            self.assertTrue(reached.wait(60))
            run.kill()
            run.wait()
            self.s3.fault = None
            self.check_published(old, 20)
        there = [key for key in self.stored() if key.startswith("versions/21-")]
        self.assertTrue(there)
        self.publish(new)
        self.check_published(new, 21)
        self.assertFalse({f"{self.prefix}/{key}" for key in there} & self.s3.written(), "an object that was there was sent again")

    def test_what_was_not_checked_is_not_published(self):
        folder = self.export(11, sizes=(10,))
        report = json.loads((folder / "export_report.json").read_text())
        (folder / "export_report.json").write_text(json.dumps({**report, "passed": False}))
        self.publish(folder, expect=64)
        self.publish(self.dir, expect=64)
        self.assertIsNone(self.pointer())

    def test_what_has_changed_since_the_check_is_not_published(self):
        folder = self.export(14, sizes=(10, 20))
        part, kept = folder / "aoti/part1.bin", folder / "export_report.json"
        report = json.loads(kept.read_text())
        report["files"] = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                           for path in folder.rglob("*") if path.is_file() and path != kept}
        kept.write_text(json.dumps(report))
        whole = part.read_bytes()
        part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        self.assertIn("aoti/part1.bin has changed since it was checked: nothing is published", self.publish(folder, expect=78))
        part.unlink()
        self.assertIn("aoti/part1.bin is missing", self.publish(folder, expect=78))
        self.assertEqual(self.stored(), {})
        part.write_bytes(whole)
        self.publish(folder)
        self.check_published(folder, 14)

    def test_what_is_no_file_is_not_left_out_in_silence(self):
        folder = self.export(18, sizes=(10,))
        (self.dir / "elsewhere").mkdir()
        for name, make in (("link", lambda path: path.symlink_to(self.dir / "elsewhere")), ("pipe", os.mkfifo)):
            make(folder / name)
            self.assertIn(f"{name} is neither a file nor a folder: nothing is published", self.publish(folder, expect=78))
            (folder / name).unlink()
        (folder / "note").symlink_to(folder / "pipeline.config")  # a link to a file is that file
        self.assertEqual(self.stored(), {})
        for inside in (folder, folder / "shelf"):
            self.assertIn("which is to be published: choose another folder", self.publish(folder, expect=64, uri=f"file://{inside}"))
        self.assertFalse((folder / "versions").exists() or (folder / "shelf").exists())
        self.publish(folder)
        self.assertTrue(any(name.endswith("/note") for name in self.stored()))

    def test_a_report_whose_hashes_cannot_be_read_is_refused(self):
        folder = self.export(15, sizes=(10,))
        kept = folder / "export_report.json"
        report = json.loads(kept.read_text())
        for files in (None, {}, [1], "x", {"part0.bin": 5}):
            kept.write_text(json.dumps({**report, "files": files}))
            self.assertIn("export_report.json: files has to hold the SHA-256 of each checked file", self.publish(folder, expect=64))
        self.assertEqual(self.stored(), {})

    def test_what_changes_on_the_way_is_not_published(self):
        """The change comes while the largest file is sent: of a file that has been hashed and not sent yet."""
        old, new = self.export(16, sizes=(10,)), self.export(17)
        self.publish(old)
        changed = threading.Event()

        def change(_):
            if not changed.is_set():
                changed.set()
                (new / "part4.bin").write_bytes(b"other")
        self.s3.fault = lambda request: change(request) if request.method in ("PUT", "POST") else None
        self.assertIn("has changed while it was published", self.publish(new, expect=78))
        self.s3.fault = None
        self.assertTrue(changed.is_set())
        self.check_published(old, 16)

    def test_two_publishers_of_one_version(self):
        """One waits for the other, file by file; both end well."""
        folder, store = self.export(18, sizes=(60 * MIB, 2000)), self.dir / "store"
        runs = [subprocess.Popen(self.command(folder, f"file://{store}"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
        for run in runs:
            text, _ = run.communicate(timeout=240)
            self.assertEqual(run.returncode, 0, text)
        version = store / json.loads((store / "latest").read_text())["path"]
        for path in folder.rglob("*"):
            if path.is_file():
                self.assertEqual((version / path.relative_to(folder)).read_bytes(), path.read_bytes())
        self.assertEqual(list(store.rglob("*.part")), [])

    def test_a_full_disk_leaves_the_old_version(self):
        """In a file system of 4 MiB that only this test sees."""
        old, new = self.export(12, sizes=(100,)), self.export(13, sizes=(100, 8 * MIB))
        small = self.dir / "small"
        small.mkdir()
        script = f"""
            set -e
            mount -t tmpfs -o size=4m tmpfs {small}
            {ANNEAL} publish {old} --publish_uri file://{small}/models
            {ANNEAL} publish {new} --publish_uri file://{small}/models && exit 1 || test $? = 75
            test -e {small}/models/$(sed -n 's/.*"path": "\\(.*\\)",*/\\1/p' {small}/models/latest)/MANIFEST.json
            grep -q '"version": "12-' {small}/models/latest
            test -z "$(find {small} -name '*.part')"
            mount -o remount,size=64m {small}
            {ANNEAL} publish {new} --publish_uri file://{small}/models
            grep -q '"version": "13-' {small}/models/latest
        """
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("this user may not mount a file system")
        done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("No space left on device", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]], verbosity=2)
