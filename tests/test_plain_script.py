"""The Python face in a plain script: no ``if __name__ == "__main__"``, no set-up."""

import os
import subprocess
import sys
from pathlib import Path

from halsted_ray.atlas.phantom_archive import write_archive

ROOT = Path(__file__).parent.parent
SCRIPT = """
from halsted_ray import train
from halsted_ray.training.recipe import BEST, changed

summary = train("archive", "run", changed(BEST, ["epochs=2", "least_steps=0"]))
print("trained", summary.model, summary.epochs)
"""


def test_train_works_in_a_plain_script(tmp_path):
    """With enough videos that Ray decodes and encodes them: its processes must not run the script again."""
    write_archive(str(tmp_path / "archive"), videos=6, minutes=0.5, seed=0, width=160, height=96, fps=8)
    (tmp_path / "mine.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["trained run/model 2"], "once"
    assert (tmp_path / "run/model/model.json").is_file()
