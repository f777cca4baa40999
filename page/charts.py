"""The charts of the insights: confusion matrix, reliability, accuracy and drawings over time, accuracy by version."""

import json
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from page.drawing import rerun
from page.news import time_zone
from page.visitor import HISTORY, INSIGHTS, Visitor
from utils import wilson

WRONG, QUIET = "#d9622b", "#8a8780"  # at least 3:1 on the light and on the dark page
# Labelled drawings below which a chart would show noise.
FEW = {"confusion": 20, "reliability": 50, "accuracy": 20, "versions": 20}
VERSIONS = 12  # at most in a chart, the last ones
SHORT = 7  # characters of a version that are shown


def dark() -> bool:
    return st.context.theme.type == "dark"


def colours() -> tuple[str, str]:
    """(the accent, text) in the visitor's theme: what is drawn in a chart does not follow it."""
    return ("#45c4b4", "#f0ede8") if dark() else ("#0a6f65", "#211f1c")


def show_chart(chart: alt.Chart, title: str, words: str, height: int = 300, **more: Any) -> None:
    """words: what the chart shows, for those who cannot see it; height: in pixels; more: of st.altair_chart."""
    text = colours()[1]
    chart = chart.properties(title=title, height=height, padding={"bottom": 4})  # for a "g" there
    # Streamlit's own gray for axes is too faint to read on the light page.
    chart = chart.configure_axis(labelColor=text, titleColor=text).configure_legend(labelColor=text)
    st.altair_chart(chart, alt=words, **more)


def too_few(chart: str, name: str, labelled: int) -> bool:
    """Say it if there are too few labelled drawings for this chart."""
    if labelled >= FEW[chart]:
        return False
    so_far = "there is 1" if labelled == 1 else f"there are {labelled}"
    st.caption(f"**{name}**: from {FEW[chart]} labelled drawings on; {so_far}.")
    return True


def show_confusion(visitor: Visitor, answers: pd.DataFrame, labelled: int) -> None:
    answered = int(answers["n"].sum())  # the others were turned away
    if too_few("confusion", "Confusion matrix", answered):
        return
    cells = answers.groupby(["true", "read"], as_index=False)["n"].sum()
    cells["share"] = cells["n"] / cells.groupby("true")["n"].transform("sum")
    cells["right"] = cells["true"] == cells["read"]
    mistakes = {
        (int(row.true), int(row.read)): f"{row.true} read as {row.read} ({row.n:,}×)"
        for row in cells[~cells["right"]].nlargest(3, "n").itertuples()
    }
    worst = ", ".join(mistakes.values()) or "none"

    key = f"insights_confusion_{visitor.charts}"
    accent, text_colour = colours()
    picked = alt.selection_point("cell", fields=["true", "read"])
    axis = alt.Axis(labelAngle=0, labelFlush=False, ticks=False, domain=False)
    axes: dict[str, Any] = {"axis": axis, "scale": alt.Scale(domain=list(range(10)))}
    base = alt.Chart(cells).encode(
        alt.X("read:O", title="read as", **axes),
        alt.Y("true:O", title="true label", **axes),
        tooltip=[
            alt.Tooltip("true", title="true label"),
            alt.Tooltip("read", title="read as"),
            alt.Tooltip("n", title="drawings", format=","),
            alt.Tooltip("share", title="of this digit", format=".1%"),
        ],
    )
    tiles = base.mark_rect(cornerRadius=3, cursor="pointer").encode(
        alt.Color("right:N", scale=alt.Scale(domain=[True, False], range=[accent, WRONG]), legend=None),
        # A mistake in a hundred must be seen, so the shade follows the root of the share.
        alt.Opacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0.15, 1]), legend=None),
        stroke=alt.condition(picked, alt.value(text_colour), alt.value(None), empty=False),
    )
    # Black or white, whichever has a contrast of 4.5 with its tile; from these shares on, the other one.
    light_tile, full_tile, right, wrong = ("white", "black", 0.3, 0.7) if dark() else ("black", "white", 0.7, 1)
    full = f"datum.share > (datum.right ? {right} : {wrong})"
    colour = alt.condition(full, alt.value(full_tile), alt.value(light_tile))
    text = base.mark_text(fontSize=11).encode(color=colour, text=alt.Text("n:Q", format=".3~s"))
    show_chart(
        tiles.add_params(picked) + text,
        "Confusion matrix: drawings by digit",
        f"Confusion matrix of {answered:,} labelled drawings. Most frequent mistakes: {worst}.",
        height=360,
        key=key,
        on_select=partial(pick_cell, visitor, key),
    )
    turned_away = f"Not here: {labelled - answered:,} taken for no digit. " if labelled > answered else ""
    mistake = ", or one of the most frequent mistakes:" if mistakes else "."
    st.caption(f"{turned_away}Pick a cell to see its drawings in the history{mistake}")
    with st.container(horizontal=True, gap="small", key="insights_mistakes"):  # as no key reaches a cell
        for pair, text in mistakes.items():
            st.button(text, key="insights_{}_{}".format(*pair), on_click=show_pair, args=(visitor, *pair))


def pick_cell(visitor: Visitor, key: str) -> None:
    """Have the history show the drawings of the picked cell, or all again when it is let go."""
    cells = st.session_state[key]["selection"].get("cell") or []
    if cells:
        show_pair(visitor, int(cells[0]["true"]), int(cells[0]["read"]))
    else:
        visitor.pair = None
        rerun(visitor, HISTORY, INSIGHTS)


def show_pair(visitor: Visitor, true: int, read: int) -> None:
    visitor.pair = true, read
    visitor.toast = f"The history shows only the {true}s that were read as {read}."
    rerun(visitor, HISTORY, INSIGHTS)


def show_reliability(answers: pd.DataFrame) -> None:
    if too_few("reliability", "Reliability", int(answers["n"].sum())):
        return
    answers = answers.assign(right=answers["n"].where(answers["true"] == answers["read"], 0))
    bins = answers.groupby("bin", as_index=False)[["n", "confidence", "right"]].sum()
    bins["said"], bins["was"] = bins["confidence"] / bins["n"], bins["right"] / bins["n"]
    bins[["low", "high"]] = [wilson(row.right, row.n) for row in bins.itertuples()]
    gap = ((bins["said"] - bins["was"]).abs() * bins["n"]).sum() / bins["n"].sum()

    axis: dict[str, Any] = {"axis": alt.Axis(format="%", tickCount=5), "scale": alt.Scale(domain=[0, 1])}
    ideal = alt.Chart(pd.DataFrame({"said": [0, 1], "was": [0, 1]})).mark_line(strokeDash=[4, 4], color=QUIET)
    base = alt.Chart(bins).encode(
        alt.X("said:Q", title="confidence of the answers", **axis),
        tooltip=[
            alt.Tooltip("said", title="mean confidence", format=".1%"),
            alt.Tooltip("was", title="read right", format=".1%"),
            alt.Tooltip("low", title="95 % interval from", format=".1%"),
            alt.Tooltip("high", title="to", format=".1%"),
            alt.Tooltip("n", title="drawings", format=","),
        ],
    )
    accent = colours()[0]
    whiskers = base.mark_rule(color=accent).encode(alt.Y("low:Q"), alt.Y2("high:Q"))
    points = base.mark_circle(color=accent, opacity=1).encode(
        alt.Y("was:Q", title="share read right", **axis),
        alt.Size("n:Q", scale=alt.Scale(type="sqrt", range=[30, 300]), legend=None),
    )
    ideal = ideal.encode(alt.X("said:Q"), alt.Y("was:Q", title="share read right", **axis))
    words = "; ".join(f"at {row.said:.0%}, {row.was:.0%} right of {row.n:,}" for row in bins.itertuples())
    show_chart(
        ideal + whiskers + points,
        "Reliability: is 90 % right nine times in ten?",
        f"Reliability by mean confidence: {words}.",
        height=360,
    )
    st.caption(
        f"On the dashed line, confidence is honest. Mean distance to it: {100 * gap:.2f} %. Bars: 95 % intervals."
    )


def show_time(times: pd.DataFrame, labelled: int) -> None:
    unit, periods = by_period(times, time_zone())
    if len(periods) < 2:
        st.caption(f"**Over time**: from two {unit}s with drawings on.")
        return
    left, right = st.columns(2, gap="large")
    accent = colours()[0]
    # Vega-Lite draws bars as wide as the period only if it knows the unit.
    units = {"hour": "yearmonthdatehours", "day": "yearmonthdate", "week": "yearweek", "month": "yearmonth"}
    time = alt.X("period:T", title=unit, timeUnit=units[unit])  # type: ignore[arg-type]
    with left:
        scored = periods[periods["labelled"] > 0].copy()
        if not too_few("accuracy", "Accuracy over time", labelled):
            scored["accuracy"] = scored["right"] / scored["labelled"]
            scored[["low", "high"]] = [wilson(row.right, row.labelled) for row in scored.itertuples()]
            axis: dict[str, Any] = {"axis": alt.Axis(format="%"), "scale": alt.Scale(zero=False)}
            base = alt.Chart(scored).encode(time)
            band = base.mark_area(color=accent, opacity=0.2).encode(
                alt.Y("low:Q", title="share read right", **axis), alt.Y2("high:Q")
            )
            line = base.mark_line(color=accent, point={"color": accent, "size": 25}).encode(
                alt.Y("accuracy:Q"),
                tooltip=[
                    alt.Tooltip("period:T", title=unit, format="%d %b %Y %H:%M"),
                    alt.Tooltip("accuracy:Q", title="read right", format=".1%"),
                    alt.Tooltip("labelled:Q", title="labelled", format=","),
                ],
            )
            first, last = scored.iloc[0], scored.iloc[-1]
            show_chart(
                band + line,
                f"Accuracy by {unit}, with its 95 % interval",
                f"Accuracy by {unit}, from {first.accuracy:.0%} ({first.period:%d %b %Y}) "
                f"to {last.accuracy:.0%} ({last.period:%d %b %Y}).",
            )
    with right:
        parts = periods.assign(unlabelled=periods["n"] - periods["labelled"]).melt(
            "period", ["labelled", "unlabelled"], "kind", "drawings"
        )
        bars = (
            alt.Chart(parts)
            .mark_bar(binSpacing=1)
            .encode(
                time,
                alt.Y("drawings:Q", title="drawings", axis=alt.Axis(format=".3~s", tickMinStep=1)),
                alt.Color(
                    "kind:N",
                    title=None,
                    scale=alt.Scale(domain=["labelled", "unlabelled"], range=[accent, QUIET]),
                    legend=alt.Legend(orient="top", offset=0, padding=0),
                ),
                tooltip=[alt.Tooltip("period:T", title=unit, format="%d %b %Y %H:%M"), "kind", "drawings"],
            )
        )
        most = periods.loc[periods["n"].idxmax()]
        show_chart(
            bars,
            f"Drawings by {unit}",
            f"Drawings by {unit}: {periods['n'].sum():,} in all, most on {most.period:%d %b %Y} ({most.n:,}).",
        )


def by_period(times: pd.DataFrame, zone: str) -> tuple[str, pd.DataFrame]:
    """Counts by 15 minutes in UTC → (hour, day, week or month; the counts by it in `zone`), some 100 at most."""
    local = times["start"].dt.tz_convert(zone).dt.tz_localize(None)
    days = (local.max() - local.min()).days
    unit = "hour" if days < 3 else "day" if days < 100 else "week" if days < 700 else "month"
    code = {"hour": "h", "day": "D", "week": "W", "month": "M"}[unit]
    period = local.dt.to_period(code).dt.start_time.rename("period")
    return unit, times.groupby(period)[["n", "labelled", "right"]].sum().reset_index()


def show_versions(versions: pd.DataFrame, labelled: int) -> None:
    """Compare the versions of the network that have answered labelled drawings, where there are several."""
    if len(versions) < 2 or too_few("versions", "Accuracy by version", labelled):
        return
    st.space("small")
    shown = versions.tail(VERSIONS).reset_index(drop=True).rename_axis("row").reset_index()
    shown["since"] = shown["first"].dt.tz_convert(time_zone()).dt.tz_localize(None)
    shown["accuracy"] = shown["right"] / shown["labelled"]
    shown[["low", "high"]] = [wilson(row.right, row.labelled) for row in shown.itertuples()]
    names = [[row.version[:SHORT], f"from {row.since:%d %b %Y}"] for row in shown.itertuples()]  # two lines each

    accent = colours()[0]
    label = alt.Axis(
        labelExpr=f"{json.dumps(names)}[datum.value]", labelFlush=False, labelOffset=-6, ticks=False, domain=False
    )
    base = alt.Chart(shown).encode(
        alt.Y("row:O", title="version", axis=label),
        tooltip=[
            alt.Tooltip("version"),
            alt.Tooltip("since:T", title="answered from", format="%d %b %Y %H:%M"),
            alt.Tooltip("accuracy:Q", title="read right", format=".1%"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1%"),
            alt.Tooltip("high:Q", title="to", format=".1%"),
            alt.Tooltip("labelled:Q", title="labelled", format=","),
        ],
    )
    axis: dict[str, Any] = {"axis": alt.Axis(format="%", tickCount=3), "scale": alt.Scale(zero=False)}
    whiskers = base.mark_rule(color=accent, strokeWidth=2).encode(
        alt.X("low:Q", title="share read right", **axis), alt.X2("high:Q")
    )
    points = base.mark_circle(color=accent, opacity=1, size=90).encode(alt.X("accuracy:Q"))
    words = "; ".join(
        f"{name} {since}, {row.accuracy:.1%} of {row.labelled:,} right ({row.low:.1%} to {row.high:.1%})"
        for (name, since), row in zip(names, shown.itertuples(), strict=True)
    )
    show_chart(
        whiskers + points,
        "Accuracy by version, with its 95 % interval",
        f"Accuracy by version of the network: {words}.",
        height=100 + 44 * len(shown),
    )
    left_out = f"The last {VERSIONS} of {len(versions):,} versions. " if len(versions) > VERSIONS else ""
    st.caption(f"{left_out}Each version answered other drawings: a difference within the bars may be chance.")
