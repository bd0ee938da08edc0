"""An image that tests/images/build makes, unpacked and run as uid 65532 on a read-only root."""
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ["ANNEAL_BUILD"]

# In a mount namespace of its own: the root is read-only, /tmp is memory, and there is no way back to another user.
RUN = """set -e
mount --bind "$1" "$1"; cd "$1"
mount -t tmpfs tmpfs tmp; mount -t proc proc proc; mount --rbind /dev dev; cp -r "$2"/. tmp/; chown -R 65532:65532 tmp; chmod 1777 tmp
mount -o remount,bind,ro "$1"
shift 2
exec setpriv --no-new-privs chroot --userspec=65532:65532 . "$@"
"""


class ImageTest(unittest.TestCase):
    images = ()

    @classmethod
    def setUpClass(cls):
        built = subprocess.run([ROOT / "tests/images/build", BUILD, *cls.images], capture_output=True, text=True)
        if built.returncode == 77:
            raise unittest.SkipTest(built.stderr.strip())
        if built.returncode:
            raise AssertionError(built.stderr[-4000:])
        cls.tars = pathlib.Path(built.stdout.strip())
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.input = pathlib.Path(cls.folder.name) / "input"
        cls.input.mkdir()
        (cls.input / "pipeline.config").write_text((ROOT / "examples/movielens/pipeline.config").read_text())

    def unpack(self, name):
        """The image's configuration; its root is then self.root."""
        self.root = pathlib.Path(self.folder.name) / name
        with tarfile.open(self.tars / f"{name}.tar") as archive:
            manifest, = json.load(archive.extractfile("manifest.json"))
            for layer in manifest["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                    files.extractall(self.root)
            for folder in ("proc", "dev"):
                (self.root / folder).mkdir(exist_ok=True)
            config = json.load(archive.extractfile(manifest["Config"]))["config"]
        self.files = [path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        self.megabytes = sum((self.root / file).stat().st_size for file in self.files) / 1e6
        print(f"{name}: {self.megabytes:.1f} MB, {len(self.files)} files", file=sys.stderr)
        return config

    def run_in(self, *command, fails=False, env=(), seconds=240):
        done = subprocess.run(["unshare", "--mount", "bash", "-c", RUN, "bash", self.root, self.input, *command],
                              capture_output=True, text=True, env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **dict(env)}, timeout=seconds)
        self.assertEqual(done.returncode != 0, fails, done.stdout[-2000:] + done.stderr[-2000:])
        return done.stdout + done.stderr

    def absent(self, *words):
        self.assertEqual([str(file) for file in self.files if any(word in file.name for word in words)], [])


def main():
    result = unittest.main(exit=False, verbosity=2).result
    if result.skipped:
        print("SKIPPED:", result.skipped[0][1])
        sys.exit(77)
    sys.exit(not result.wasSuccessful())
