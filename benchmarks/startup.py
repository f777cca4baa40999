"""How long it takes from starting the app to its first answer.

    .venv/bin/python benchmarks/startup.py

A database server is there already, with an empty table. Five times, a new app process is started, and as soon as it
takes connections a visitor opens the page over the websocket and draws. `the page opens` is when the visitor has it,
`first answer` when the answer to the drawing is there. The files are in the system's cache. Takes some minute.
"""

import contextlib
import time

import numpy as np
from bench import app_script, arguments, begin, database, drawing, report, serve, spread
from visitor import Visitor

STARTS = 5


def main():
    options = begin(arguments(__doc__))
    rng = np.random.default_rng(0)
    pages, answers = [], []
    with database() as environment:
        for n in range(1 + STARTS):
            began = time.perf_counter()
            with (
                serve(app_script(options.app), **environment) as app,
                contextlib.closing(Visitor(app.address)) as visitor,
            ):
                page = time.perf_counter() - began
                visitor.draw(drawing(rng))
                assert visitor.text("answer_confidence")
                if n:  # the first one fills the system's cache
                    pages.append(page)
                    answers.append(time.perf_counter() - began)
    report("start to an open page", spread(pages, "s"))
    report("start to the first answer", spread(answers, "s"))


if __name__ == "__main__":
    main()
