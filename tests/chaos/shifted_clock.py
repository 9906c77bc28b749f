"""A Python program under a wrong clock: `python -m tests.chaos.shifted_clock SECONDS MODULE …`.

For machines without libfaketime: `time.time`, `time.time_ns` and `datetime.now` of this process are shifted, in Python alone. The
monotonic clock stays right, as it does when somebody sets a machine's clock.
"""

import datetime as datetime_module
import runpy
import sys
import time

_true_time, _true_nanoseconds, _true_datetime = time.time, time.time_ns, datetime_module.datetime


def shift(seconds: float) -> None:
    """From now on this process believes that it is so much later."""

    class ShiftedDatetime(_true_datetime):
        @classmethod
        def now(cls, tz: datetime_module.tzinfo | None = None) -> "ShiftedDatetime":  # type: ignore[override]
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> "ShiftedDatetime":
            return cls.fromtimestamp(time.time(), datetime_module.UTC).replace(tzinfo=None)

    time.time = lambda: _true_time() + seconds
    time.time_ns = lambda: _true_nanoseconds() + int(seconds * 1e9)
    datetime_module.datetime = ShiftedDatetime  # type: ignore[misc]


def main() -> None:
    seconds, module = float(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    shift(seconds)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
