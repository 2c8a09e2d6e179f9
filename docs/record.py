# /// script
# requires-python = ">=3.11"
# dependencies = ["pyte>=0.8", "rich>=13.7"]
# ///
"""Run a command in a terminal of its own, and draw that terminal as SVG.

    uv run docs/record.py docs/quickstart.svg tunewright train examples/quickstart.yaml

This is how docs/quickstart.svg was made.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pyte
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, ROWS = 100, 60


def run(command: list[str]) -> pyte.Screen:
    """The screen as the command leaves it."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    while chunk := _read(terminal):
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
        stream.feed(chunk)
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(code)
    return screen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other end is closed
        return b""


def draw(screen: pyte.Screen, command: list[str]) -> str:
    """The command and the screen's lines, as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    lines = [_line(screen, row) for row in range(ROWS)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for line in lines:
        console.print(line, soft_wrap=True)
    drawing = console.export_svg(title="Tunewright")
    return re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # a picture fetches no fonts


def _line(screen: pyte.Screen, row: int) -> Text:
    text = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        text.append(cell.data, Style(color=_color(cell.fg), bold=cell.bold or None))
    text.rstrip()
    return text


def _color(name: str) -> Color | None:
    if name == "default":
        return None
    is_rgb = re.fullmatch(r"[0-9a-f]{6}", name)
    return Color.parse(f"#{name}" if is_rgb else {"brown": "yellow"}.get(name, name))


if __name__ == "__main__":
    target, *arguments = sys.argv[1:]
    drawing = draw(run(arguments), ["tunewright", *arguments[1:]])
    Path(target).write_text(drawing, "utf-8")
