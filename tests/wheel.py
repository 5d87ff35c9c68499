"""Build the wheel, install it in each way that pip has, and use it as a new user does, from empty folders.

usage: python tests/wheel.py

Run it with the Python version to test; it needs only pip. No extras are installed before the last step, a notebook.
It takes a few minutes and 2 GB in a temporary folder.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = "--max_epochs 1 --phantom_cases 6 --image_size 32 --batch_size 2 --run_name first"


@dataclass
class Installation:
    """Hold one way to start medpos.

    Args:
        python: the interpreter.
        folder: folder to work in; made empty.
        environment: variables beside those of this process.
    """

    python: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    def run(self, command: str, expected: str = "") -> str:
        """Run a command that begins with ``python`` or ``medpos``; return what it shows.

        Raises:
            SystemExit: it fails, or ``expected`` is not part of what it shows.
        """
        program, *arguments = shlex.split(command)
        start = [str(self.python)] if program == "python" else [str(self.python), "-m", program]
        print(f"  {command}", flush=True)
        variables = {**os.environ, **self.environment}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run([*start, *arguments], cwd=self.folder, env=variables, **pipes, check=False)
        if done.returncode or expected not in done.stdout:
            raise SystemExit(f"{done.stdout}\nfailed with status {done.returncode}, expected {expected!r}: {command}")
        return done.stdout


def look_around(medpos: Installation) -> None:
    """Run the commands that read files of the package."""
    place = medpos.run('python -c "import medpos; print(medpos.__file__)"').strip()
    print(f"  {place}")
    medpos.run("medpos --version", "medpos ")
    medpos.run("medpos bundles list", "UNet + position")
    medpos.run("medpos bundles show jsrt_small_pe", "--max_epochs")
    medpos.run("medpos bundles copy jsrt_small_pe", "bundles/jsrt_small_pe.json")
    medpos.run("medpos bundles copy chest_example", "bundles/chest_example.yaml")
    (medpos.folder / "mine.yaml").write_text("image_size: 64\n", encoding="utf-8")
    medpos.run("medpos bundles check bundles/chest_example.yaml mine.yaml", "right")
    medpos.run("medpos notebooks copy", "notebooks/03_position.ipynb")
    medpos.run("medpos study list", "figure3")
    medpos.run("medpos study copy figure3", "figure3.json")
    medpos.run("medpos study figure3 --profile tiny --dry-run", "jobs left")
    medpos.run("medpos data phantoms --kind acdc --cases 2 --out raw", "raw: 2 acdc phantoms")


def train(medpos: Installation) -> None:
    """Train a copied bundle, and use the run."""
    medpos.run(f"python -m monai.bundle run --config_file bundles/jsrt_small_pe.json {TINY}", "mean of organs")
    # The same from YAML: a bundle, an overlay and a file of arguments.
    (medpos.folder / "arguments.yaml").write_text(
        "config_file: [bundles/chest_example.yaml, mine.yaml]\nmax_epochs: 1\nphantom_cases: 6\n", encoding="utf-8"
    )
    medpos.run("python -m monai.bundle run --args_file arguments.yaml --run_name first", "mean of organs")
    run = "runs/jsrt_small_pe/first"
    medpos.run(f"medpos report {run} --out page", "page: page/index.html")
    medpos.run(f"medpos predict {run} data/phantoms/jsrt/images --out predictions", "0 failed")
    medpos.run("medpos new-bundle own --data data/phantoms/jsrt", "bundles/own.json")


def main() -> None:
    """Install and use medpos in each way."""
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        plain = Installation(python, work / "plain")
        plain.run(f"python -m pip wheel --quiet --no-deps --wheel-dir {work} {ROOT}")
        (wheel,) = work.glob("medpos-*.whl")
        plain.run(f"python -m pip install --quiet {wheel}")
        subprocess.run([python.with_name("medpos"), "--version"], check=True)
        look_around(plain)
        train(plain)
        use_elsewhere(plain, wheel, work)
        plain.run(f"python -m pip install --quiet '{wheel}[notebooks]'")
        run_notebook(plain)


def use_elsewhere(plain: Installation, wheel: Path, work: Path) -> None:
    """Use medpos where ``--target``, ``--user`` and ``--editable`` install it, with the environment's dependencies."""
    plain.run("python -m pip uninstall --quiet --yes medpos")
    libraries = plain.run("python -c \"import sysconfig; print(sysconfig.get_path('purelib'))\"").strip()

    target = Installation(plain.python, work / "target", {"PYTHONPATH": str(work / "target/packages")})
    target.run(f"python -m pip install --quiet --no-deps --target packages {wheel}")
    look_around(target)
    train(target)

    variables = {"PYTHONUSERBASE": str(work / "user/base"), "PIP_BREAK_SYSTEM_PACKAGES": "1", "PYTHONPATH": libraries}
    user = Installation(Path(sys.executable), work / "user", variables)
    user.run(f"python -m pip install --quiet --no-deps --user {wheel}")
    look_around(user)

    editable = Installation(plain.python, work / "editable")
    editable.run(f"python -m pip install --quiet --no-deps --editable {ROOT}")
    look_around(editable)
    editable.run("python -m pip uninstall --quiet --yes medpos")


def run_notebook(medpos: Installation) -> None:
    """Run every cell of a copied notebook."""
    medpos.run("python -m jupyter execute --inplace notebooks/01_first_run.ipynb")
    text = (medpos.folder / "notebooks/01_first_run.ipynb").read_text(encoding="utf-8")
    # A command that fails says so, but doesn't stop a notebook.
    if "error:" in text or "Traceback" in text or "image/png" not in text:
        raise SystemExit(f"the notebook shows an error or no image:\n{text}")


if __name__ == "__main__":
    main()
