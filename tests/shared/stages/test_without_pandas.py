import subprocess
import sys

PROGRAM = """
import sys
from shared.stages.without_pandas import keep_pandas_out
keep_pandas_out()
keep_pandas_out()
import pyarrow as pa
print(pa.array([{"a": 1}]).to_pylist(), "pandas" in sys.modules, len(sys.meta_path))
try:
    import pandas
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_arrow_arrays_are_made_without_importing_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("[{'a': 1}] False")
    assert second == "pandas"
