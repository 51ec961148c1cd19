"""Tests the handler and builds the component: `python build.py [FILE.wasm]`. Install requirements.txt first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONTRACT = HERE / "../../../wit/0.1.0"
WIT = HERE / "dist/wit"


def componentize_py(*arguments):
    # The program that belongs to the Python that runs this script, so that no venv needs to be active.
    program = shutil.which("componentize-py", path=str(Path(sys.executable).parent)) or "componentize-py"
    subprocess.run([program, "-q", "-d", str(WIT), "-w", "plugin", *arguments], check=True, cwd=HERE)


def main():
    target = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "dist/shout-py.wasm").resolve()
    # The plugin's own world, with the broker's contract as its dependency.
    shutil.copytree(CONTRACT, WIT / "deps/switchboard-plugin", dirs_exist_ok=True)
    shutil.copy(HERE / "world.wit", WIT)
    bindings = HERE / "dist/bindings"
    shutil.rmtree(bindings, ignore_errors=True)
    componentize_py("bindings", str(bindings))
    tests = [sys.executable, "-m", "unittest", "--quiet", "test_handler"]
    subprocess.run(tests, check=True, cwd=HERE, env=os.environ | {"PYTHONPATH": str(bindings)})
    target.parent.mkdir(parents=True, exist_ok=True)
    # A plugin has no network and no files, so leave out the parts of WASI that Python would import for them.
    componentize_py("componentize", "handler", "--stub-wasi", "-p", str(HERE), "-o", str(target))
    print(f"{target}: {target.stat().st_size} bytes")


main()
