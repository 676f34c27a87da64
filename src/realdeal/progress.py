"""Progress: a bar on a terminal, plain lines in a log or under Snakemake."""

import sys

from tqdm import tqdm


class _Lines:
    """A text stream for tqdm that turns its carriage returns into lines."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        text = text.strip("\r\n \x1b[A")
        if text:
            self.stream.write(text + "\n")

    def flush(self):
        self.stream.flush()


def progress(iterable=None, total=None, description="", unit="it", disable=False, initial=0):
    """Wrap an iterable (or count to `total`) and report what is done, the rate and the time left.

    `initial` was done before and does not count for the rate. Bytes (unit "B") are counted in k,
    M... On a terminal this is a tqdm bar. Elsewhere a line is written at most every ten seconds,
    so that logs stay readable when several jobs write at once.
    """
    if sys.stderr.isatty():
        return tqdm(
            iterable,
            total=total,
            desc=description,
            unit=unit,
            unit_scale=unit == "B",
            initial=initial,
            dynamic_ncols=True,
            disable=disable,
        )
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        initial=initial,
        disable=disable,
        file=_Lines(sys.stderr),
        mininterval=10,
        maxinterval=30,
        ascii=True,
        bar_format="{desc}: {n_fmt}/{total_fmt} ({percentage:.0f}%), {rate_fmt}, "
        "{elapsed} gone, {remaining} left{postfix}",
    )
