"""Reading a CSV file of a million rows, ours and that of `datasets`: `python -m benchmarks.read_csv [--json]`.

Both write the rows into a fresh cache, ours without the column that numbers them. What is promised: about as fast, though
ours refuses rows of another width than the header and leaves all values as they are written.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import datasets

from benchmarks.timing import as_json, interleaved, show
from tunewright_hf.data.reading.files import Reading
from tunewright_hf.data.reading.row_builders import build

OURS, THEIRS = "tunewright", "datasets.load_dataset"


def main() -> None:
    """Print the table and the ratio, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in the file (default: %(default)s)")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.csv")
        write(file, arguments.rows)
        size = file.stat().st_size
        timings = interleaved(_readers(file, Path(folder)), arguments.repeats)
    ratios = {"ours_to_datasets": timings[OURS].median / timings[THEIRS].median}
    print(f"{arguments.rows:,} rows, {size / 1e6:.0f} MB")
    show(timings, ratios, limits={})
    if arguments.json:
        print(as_json({"rows": arguments.rows, "bytes": size, "repeats": arguments.repeats}, timings, ratios))


def write(file: Path, rows: int) -> None:
    """Write a file as pandas does: with an index, and quotes, commas and line breaks in every tenth prompt."""
    chance = random.Random(0)
    words = [f"word{i}" for i in range(3000)]
    texts = [" ".join(chance.choices(words, k=chance.randint(3, 12))) for _ in range(5000)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "prompt", "completion", "category"])
        for i in range(rows):
            prompt, completion = chance.choice(texts), chance.choice(texts)
            writer.writerow([i, f'"{prompt}", he said,\nand left.' if i % 10 == 0 else prompt, completion, "general"])


def _readers(file: Path, folder: Path) -> dict[str, Callable[[], object]]:
    numbers = itertools.count()

    def cache() -> Path:
        return folder / f"cache-{next(numbers)}"

    return {
        OURS: lambda: build("csv", [str(file)], Reading(), cache(), streaming=False),
        THEIRS: lambda: datasets.load_dataset("csv", data_files=[str(file)], split="train", cache_dir=str(cache())),
    }


if __name__ == "__main__":
    main()
