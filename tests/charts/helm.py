"""The helm of tests/cluster, and what it renders."""
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:
    print("SKIPPED: no yaml module; as root: apt-get install --no-install-recommends python3-yaml")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/anneal"
TOOL = ROOT / "tests/cluster/cluster"


def program():
    built = subprocess.run([TOOL, "build", "helm"], capture_output=True, text=True)
    if built.returncode == 77:
        print(built.stderr.strip())
        sys.exit(77)
    if built.returncode:
        raise AssertionError(built.stderr)
    return built.stdout.strip() + "/helm"


HELM = program()
HOME = tempfile.TemporaryDirectory()


def helm(*args, fails=False, kubeconfig="/nowhere"):
    """stdout; with fails=True the command has to fail, and stderr comes back."""
    done = subprocess.run([HELM, *map(str, args)], capture_output=True, text=True, timeout=240,
                          env={"PATH": os.environ["PATH"], "HOME": HOME.name, "KUBECONFIG": str(kubeconfig)})
    if (done.returncode != 0) != fails:
        raise AssertionError(f"helm {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr if fails else done.stdout


def with_values(command, values, *args, **how):
    """helm COMMAND ... with a dictionary of values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return helm(*command, "--values", file.name, *args, **how)


def template(values=None, kubernetes="1.34.4", fails=False):
    """What helm renders, as text."""
    return with_values(["template", "anneal", CHART, "--namespace", "system", "--kube-version", kubernetes], values or {}, fails=fails)


def render(values=None):
    """What helm renders: {(kind, namespace, name): object}."""
    objects = {}
    for found in yaml.safe_load_all(template(values)):
        if found:
            key = (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"])
            assert key not in objects, f"rendered twice: {key}"
            objects[key] = found
    return objects
