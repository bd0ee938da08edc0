"""Argo CD's and Flux's health checks of docs/gitops on recorded objects."""
import json
import os
import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
GITOPS = HERE.parents[1] / "docs/gitops"
HEALTH = pathlib.Path(os.environ["ANNEAL_BUILD"]) / "bin/gitops-health"


def health(*objects):
    """[(Argo CD's status, its message, Flux's status)]"""
    done = subprocess.run([HEALTH, GITOPS / "argocd/health.lua", GITOPS / "flux/kustomization.yaml"], input=json.dumps(objects),
                          capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return [(v["lua"], v["message"], v["flux"]) for v in json.loads(done.stdout)]


class Recorded(unittest.TestCase):
    def test_every_state(self):
        cases = json.loads((HERE / "objects.json").read_text())
        found = health(*[case["object"] for case in cases])
        for case, (argo, message, flux) in zip(cases, found):
            with self.subTest(case["name"]):
                self.assertEqual((argo, message, flux), (case["argo"], case["message"], case["flux"]))

    def test_the_config_map_holds_the_script(self):
        script = (GITOPS / "argocd/health.lua").read_text()
        text = (GITOPS / "argocd/argocd-cm.yaml").read_text()
        entry = "".join(("    " + line).rstrip() + "\n" for line in script.splitlines())
        for kind in ("TrainJob", "EvalJob", "ExportJob"):
            self.assertIn(f"  resource.customizations.health.anneal.dev_{kind}: |\n{entry}", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
