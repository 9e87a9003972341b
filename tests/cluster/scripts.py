"""The chart's scripts, run as their pods run them."""

import base64
import subprocess
import sys
from pathlib import Path

import yaml
from chart.rendering import CHART
from cluster.harness.api import Api


def run_script(
    api: Api, account: tuple[str, str], script: str, more: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run one of the chart's scripts with a ServiceAccount's token in the place where a pod has it."""
    config = yaml.safe_load(api.as_service_account(*account, folder).read_text(encoding="utf-8"))
    cluster = config["clusters"][0]["cluster"]
    (folder / "token").write_text(config["users"][0]["user"]["token"], encoding="utf-8")
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    host, _, port = cluster["server"].removeprefix("https://").rpartition(":")
    env = {"ACCOUNT": str(folder), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, **more}
    command = [sys.executable, "-I", "-c", (CHART / "files" / script).read_text(encoding="utf-8")]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=env)
