"""The table as one CSV file, made when somebody asks for it."""

import base64
import csv
import io
import threading
import time

import db

PAGE = 1_000
HEAD = ["id", "created_at", "updated_at", "predicted_digit", "confidence", *(f"p{digit}" for digit in range(10))]
HEAD += ["not_a_digit", "true_label", "labelled_at", "model_version", "drawing_png_base64"]

_turn = threading.Lock()
_last = (float("-inf"), b"")  # (until when it may be handed out again, the file)


def export_csv() -> bytes:
    """All rows, newest first, as UTF-8 CSV, the drawing's PNG in base64 in the last column. Raises db.DatabaseError.

    One is made at a time, and handed out again for as long as fifty times what it took to make: the files are kept in
    memory until they are fetched, and visitors who ask for the same one share it.
    """
    global _last
    with _turn:
        began = time.monotonic()
        if began < _last[0]:
            return _last[1]
        _last = (float("-inf"), b"")  # the old one need not be in memory beside the new one
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEAD)
        before = None
        while rows := db.fetch_export(before, PAGE):
            writer.writerows(_line(row) for row in rows)
            before = rows[-1][1], rows[-1][0]
        data = text.getvalue().encode()
        _last = (time.monotonic() + 50 * (time.monotonic() - began), data)
        return data


def _line(row):
    drawing_id, created, updated, digit, confidence, probabilities, other, label, labelled, version, drawing = row
    times = [when and when.isoformat() for when in (created, updated, labelled)]
    png = base64.b64encode(drawing).decode()
    return [drawing_id, times[0], times[1], digit, confidence, *probabilities, other, label, times[2], version, png]
