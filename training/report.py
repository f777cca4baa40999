"""The report of learn.py: Markdown, and a picture beside it of the drawings that it speaks of."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from training.gate import Check, Said
from training.labels import Labelled

SIDE, COLUMNS, MOST = 84, 12, 36  # pixels of a picture; in a row of the picture; of each kind

Section = tuple[str, list[tuple[str, torch.Tensor, str]]]  # its title; id, (28, 28) picture and caption of each drawing


def write_report(
    path: Path,
    title: str,
    verdict: str,
    checks: list[Check],
    figures: dict[str, Any],
    learnt_from: dict[str, Any],
    judged_by: Labelled,
    said: list[Said],
    denied: Labelled,
    said_of_denied: Said,
) -> None:
    """said: of the drawings that it was judged by, by the network in service and by the challenger. Raises OSError."""
    labels = judged_by.labels.numpy()
    right = [network.right(labels) for network in said]
    picture = path.with_suffix(".png")
    aside = "kept, since they are many" if denied.ids and not learnt_from["set aside"] else "set aside"
    every = np.ones(len(denied.ids), bool)
    sections = [
        section("Read right by the challenger alone", judged_by, right[1] & ~right[0], said[0]),
        section("Read right by the network in service alone", judged_by, right[0] & ~right[1], said[1]),
        section(f"Labels that both networks deny, {aside}", denied, every, said_of_denied),
    ]
    lines = [f"# {verdict}", "", title, "", "## What went in", ""]
    lines += [
        f"{learnt_from['drawings']:,} labelled drawings of {learnt_from['sessions']:,} sessions were trained on; it "
        f"was judged by {learnt_from['judged by']:,} drawings of {figures['visitors']['sessions']:,} newer sessions, "
        f"not seen before. {learnt_from['denied']:,} labels were denied by both networks with 99 %, and "
        f"{len(learnt_from['set aside']):,} set aside. About half of such labels are right: the list is to look at.",
        "",
        "## The gate",
        "",
        "| | in service | challenger | asked | holds |",
        "|---|--:|--:|---|---|",
    ]
    lines += [f"| {c.what} | {' | '.join(c.values)} | {c.asked} | {'yes' if c.holds else '**no**'} |" for c in checks]
    test, visitors = figures["MNIST test"], figures["visitors"]
    lines += [
        f"| MNIST's test images % | {test[0]:.2f} | {test[1]:.2f} | decide nothing | |",
        "",
        f"Of the visitors' drawings {visitors['gained']} are read right by the challenger alone, {visitors['lost']} by "
        f"the network in service alone (McNemar's exact p {visitors['mcnemar p']:.3g}, which decides nothing).",
        "",
        "## Digit by digit, of the drawings that it was judged by",
        "",
        "| true label | drawings | in service, right | challenger, right |",
        "|---|--:|--:|--:|",
    ]
    for digit, counts in enumerate(zip(*visitors["of each digit"], strict=True)):
        lines.append(f"| {digit} | {' | '.join(map(str, counts))} |")
    lines += ["", "## Drawings", "", f"![the drawings]({picture.name})", ""]
    for name, items in sections:
        lines += [f"- {name}"]
        lines += [f"  - `{drawing_id}`: {caption}" for drawing_id, _, caption in items]
    sheet(sections).save(picture)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def section(title: str, drawings: Labelled, which: np.ndarray, said: Said) -> Section:
    """The title with the number of the chosen drawings, and the first of them with their labels and what is said."""
    read, away, number = said.read(), said.turned_away(), int(which.sum())
    shown = f", of which the first {MOST} are shown" if number > MOST else ""
    return f"{title}: {number}{shown}", [
        (
            drawings.ids[i],
            drawings.pictures[i, 0],
            f"{int(drawings.labels[i])} as {'none' if away[i] else read[i]}",
        )
        for i in np.flatnonzero(which)[:MOST]
    ]


def sheet(sections: list[Section]) -> Image.Image:
    """Each section's title, and its pictures below it, large, with their captions."""
    height = sum(24 + -(-len(items) // COLUMNS) * (SIDE + 18) for _, items in sections)
    image = Image.new("L", (COLUMNS * (SIDE + 6), height), 24)
    draw, top = ImageDraw.Draw(image), 0
    for title, items in sections:
        draw.text((4, top + 6), title, fill=255)
        top += 24
        for i, (_, picture, caption) in enumerate(items):
            x, y = i % COLUMNS * (SIDE + 6), top + i // COLUMNS * (SIDE + 18)
            pixels = Image.fromarray((picture.numpy() * 255).astype(np.uint8))
            image.paste(pixels.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x + 3, y))
            draw.text((x + 4, y + SIDE), caption, fill=230)
        top += -(-len(items) // COLUMNS) * (SIDE + 18)
    return image
