"""Progress bars on terminals; elsewhere, as in a job's log, one plain line from time to time."""

from __future__ import annotations

import sys
import time
from typing import Any

import tqdm

# Between the lines of one bar where nobody looks at a terminal.
SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}{n_fmt} of {total_fmt} ({percentage:.0f} %), {elapsed} so far, {remaining} to go, "


class Bar(tqdm.tqdm):
    """tqdm's bar, but for files and pipes, which a bar that rewrites itself would fill."""

    disable: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what `tqdm.tqdm` takes."""
        file = options.get("file") or sys.stderr
        self._plain = not file.isatty()
        self._began = time.monotonic()
        self._next_line = self._began + SECONDS_BETWEEN_LINES
        self._said: int | None = None
        super().__init__(*arguments, **{"dynamic_ncols": True} | options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write its line when one is due."""
        if not self._plain:
            return bool(super().display(msg, pos))
        if msg is None and time.monotonic() >= self._next_line:
            self._write_line()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Take the bar from the terminal; lines stay."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """End the bar; of one that stays, the last line says how it ended."""
        if not self._plain or self.disable:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)
        if self.leave and self._said != self.n and time.monotonic() >= self._began + self.delay:
            self._write_line()

    def _write_line(self) -> None:
        facts = self.format_dict
        known = self.total is not None
        facts["prefix"] = f"{self.desc}: " if self.desc else ""
        facts["bar_format"] = LINE + "{rate_fmt}{postfix}" if known else None
        self.fp.write(self.format_meter(**facts) + "\n")
        self.fp.flush()
        self._said = self.n
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
