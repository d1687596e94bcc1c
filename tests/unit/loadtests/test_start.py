import subprocess
import sys

from pipelines.settings.settings import ROOT

PROGRAM = """
import importlib.metadata
asked, entry_points = [], importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **words: asked.append(words.get("group", "")) or entry_points(**words)
import loadtests.generator.start
from gevent import monkey
print(monkey.is_module_patched("socket"), [group for group in asked if group.startswith("gevent")])
"""


def test_locust_starts_patched_without_a_search_for_plugins() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ended.stdout == "True []\n"
