"""Keep pandas out of a worker process.

pyarrow looks for pandas when it makes an array from Python objects, and imports it where it is installed (`datasets` brings
it). That costs a worker 50 MB and a second for nothing: no row stage uses pandas. Whole steps run in processes of their own,
where it may be imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _PandasRefused(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of worker processes", name=fullname)
        return None


def keep_pandas_out() -> None:
    """From now on `import pandas` fails in this process as if it were not installed. Call before pyarrow makes arrays."""
    if not any(isinstance(finder, _PandasRefused) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PandasRefused())
