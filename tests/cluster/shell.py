"""A shell on the test cluster, to look around in: control plane, real node, KubeRay, training-operator, the operator's image and
the chart's definition. kubectl and helm are on the PATH. All of it is gone when the shell ends. `make cluster-shell`.
"""

from __future__ import annotations

import os
import subprocess
import sys

from control_plane import BIN, ControlPlane
from real_node import ROOT, whole_node


def main() -> int:
    """Gives the shell's exit code, or that of the command in the arguments."""
    with ControlPlane() as plane:
        plane.kubectl("apply", "--server-side", "-f", str(ROOT / "charts/visionr1-ptst/crds"))
        with whole_node(plane):
            print(plane.kubectl("get", "nodes,pods", "-A"), file=sys.stderr)
            environment = {**os.environ, "KUBECONFIG": str(plane.admin), "PATH": f"{BIN}:{os.environ['PATH']}"}
            command = sys.argv[1:] or [os.environ.get("SHELL", "/bin/bash")]
            return subprocess.run(command, env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
