"""A worker loads neither PyTorch nor transformers; import-linter holds the rest (`make check`)."""

import subprocess
import sys


def test_a_worker_loads_neither_pytorch_nor_transformers():
    code = """
import sys
import udfs.recommend.recommender
print([name for name in ('torch', 'transformers', 'pyflink') if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
