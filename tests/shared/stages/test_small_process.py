import subprocess
import sys

PROGRAM = """
import gc
from shared.stages.small_process import settle_after_imports, share_one_heap
share_one_heap()
import shared.stages.worker
settle_after_imports()
print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0] > 700, gc.isenabled())
"""


def test_what_was_imported_is_never_searched_for_garbage_again_and_new_objects_still_are() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
