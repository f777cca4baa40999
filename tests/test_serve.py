"""The routes beside the page, and the start and end of the process, over real HTTP."""

import base64
import concurrent.futures
import contextlib
import http.client
import io
import json
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

import numpy as np
import pandas as pd
import pytest
import uvicorn
from browser import Visitor, placed
from chaos import App, server_processes
from helpers import ONE, SEVEN, png
from PIL import Image
from playwright.sync_api import expect
from starlette.applications import Starlette
from streamlit.proto.BackMsg_pb2 import BackMsg
from test_browser import DIGITS
from test_train import write_mnist

import evaluate
import serve
from model import load_model, predict
from store import postgres
from utils import decode_drawing, preprocess, to_pixels


@pytest.fixture
def address(db):
    """host:port of the routes alone, in this process: what a test patches holds there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = uvicorn.Config(Starlette(routes=serve.routes()), log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        yield "{}:{}".format(*taken.getsockname())
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def save(db, prediction):
    """Saves this many rows, of which every other one has a label."""

    def rows(n, **more):
        for number in range(n):
            drawing_id = str(uuid.uuid4())
            db.save_prediction(drawing_id, **prediction | {"digit": number % 10} | more)
            if number % 2:
                db.save_label(drawing_id, 3)

    return rows


def get(address, path="/predictions.csv"):
    return urllib.request.urlopen(f"http://{address}{path}", timeout=60)


def refused(address, path="/predictions.csv"):
    """(status, Retry-After, text) of an answer that is an error."""
    with pytest.raises(urllib.error.HTTPError) as error:
        get(address, path)
    return error.value.code, error.value.headers["Retry-After"], error.value.read().decode()


def hold(monkeypatch, module, name):
    """Has every call of module.name wait. (event that lets them go, semaphore with one for each that came)."""
    go, waiting, function = threading.Event(), threading.Semaphore(0), getattr(module, name)

    def wait_for_it(*arguments):
        waiting.release()
        assert go.wait(60)
        return function(*arguments)

    monkeypatch.setattr(module, name, wait_for_it)
    return go, waiting


def check_download(csv, db):
    frame = pd.read_csv(csv, parse_dates=["created_at"], dtype={"true_label": "Int64"})
    table = db.fetch_predictions()
    assert frame["id"].tolist() == table["id"].tolist()
    assert frame["created_at"].tolist() == table["created_at"].tolist()
    assert frame["true_label"].equals(table["true_label"])
    assert [base64.b64decode(text) for text in frame["drawing_png_base64"]] == table["drawing"].tolist()
    for name in ("predicted_digit", "confidence", "not_a_digit", "model_version"):
        assert frame[name].tolist() == table[name].tolist()
    for name in ("updated_at", "labelled_at"):
        times = pd.to_datetime(frame[name], format="ISO8601", utc=True).astype(table[name].dtype)
        assert times.equals(table[name])
    assert np.allclose(frame[[f"p{i}" for i in range(10)]], table["probabilities"].tolist())


# --- the answer ------------------------------------------------------------------------------------------------------


def ask(address, png, path="/answer", **headers):
    """(status, Retry-After, JSON or text) of what `POST /answer` says of this PNG. headers: content_type="…"."""
    headers = {"content-type": "image/png"} | {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request("POST", path, png, headers)
        answer = connection.getresponse()
        said = answer.read().decode()
        return answer.status, answer.headers["Retry-After"], json.loads(said) if answer.status == 200 else said


def test_the_answer_is_what_the_network_says_of_the_drawing_and_keeps_nothing(address, db):
    status, _, answer = ask(address, png(SEVEN))
    rgba = decode_drawing(png(SEVEN))
    model, picture = load_model(serve.SERVED), preprocess(rgba)
    prediction = predict(model, picture)
    assert status == 200
    assert list(answer) == [
        *("digit", "confidence", "probabilities", "not_a_digit", "parts", "model_version", "picture")
    ]
    assert (answer["digit"], answer["parts"], answer["model_version"]) == (7, [], model.version)
    assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
    assert answer["confidence"] == max(answer["probabilities"])
    assert answer["not_a_digit"] == pytest.approx(prediction.not_a_digit, abs=1e-6)
    with Image.open(io.BytesIO(base64.b64decode(answer["picture"]))) as seen:
        assert np.array_equal(np.asarray(seen), to_pixels(picture))
    assert ask(address, png(ONE, [(200, 60), (260, 60), (220, 220)]))[2]["parts"] == [1, 7]
    assert len(db.fetch_predictions()) == 0


@pytest.mark.parametrize(
    ("body", "headers", "status", "word"),
    [
        (png(SEVEN), {"content_type": "image/jpeg"}, 415, "Content-Type: image/png"),
        (png(SEVEN), {"content_type": "multipart/form-data; boundary=x"}, 415, "Content-Type: image/png"),
        (png(SEVEN), {"origin": "https://elsewhere.example"}, 403, "another site"),
        (png(SEVEN), {"origin": "null"}, 403, "another site"),
        (png(), {}, 422, "no ink"),
        (b"", {}, 400, "not a readable PNG"),
        (b"seven", {}, 400, "not a readable PNG"),
        (png(SEVEN)[:400], {}, 400, "not a readable PNG"),
        (png(SEVEN, size=1121), {}, 400, "1121×1121 pixels"),
        (bytes(1_000_001), {}, 413, "at most 1,000,000 bytes"),
    ],
)
def test_what_is_no_drawing_is_refused_with_a_sentence(address, body, headers, status, word):
    code, _, text = ask(address, body, **headers)
    assert code == status and word in text and text.endswith(".\n") and text.count("\n") == 1


def test_only_a_post_is_answered(address):
    assert refused(address, "/answer")[0] == 405


@pytest.mark.parametrize("origin", ["http://{}", "HTTP://{}"])
def test_a_page_of_this_very_server_is_answered(address, origin):
    assert ask(address, png(SEVEN), origin=origin.format(address))[0] == 200


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://digits.example", "digits.example", 200),
        ("https://digits.example", "digits.example:443", 200),
        ("https://digits.example", "digits.example:8501", 403),
        ("http://digits.example:8501", "digits.example", 403),
        ("https://digits.example.evil.example", "digits.example", 403),
        ("https://[::1]", "[::1]", 200),
        ("https://digits.example:x", "digits.example", 403),
    ],
)
def test_host_and_port_of_the_origin_must_be_those_that_were_asked(address, origin, host, status):
    assert ask(address, png(SEVEN), origin=origin, host=host)[0] == status


def test_another_sites_page_is_refused_and_a_large_drawing_before_the_body_is_read(address):
    host, port = address.split(":")
    for head in ("Origin: https://elsewhere.example\r\nContent-Length: 1000", "Content-Length: 1000001"):
        with socket.create_connection((host, int(port)), timeout=60) as asker:
            asker.sendall(
                f"POST /answer HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/png\r\n{head}\r\n\r\n".encode()
            )
            assert asker.recv(1_000).startswith((b"HTTP/1.1 403", b"HTTP/1.1 413"))


def test_a_drawing_without_a_stated_length_is_read_no_further_than_it_may_go(address):
    host, port = address.split(":")
    head = f"POST /answer HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as asker:
        asker.sendall(head.encode() + 16 * chunk)
        assert asker.recv(1_000).startswith(b"HTTP/1.1 413")


def test_what_is_more_than_its_share_of_a_core_is_refused_at_once(address, monkeypatch):
    share = serve.Bucket(0.0, 1e-9)
    monkeypatch.setattr(serve, "answers", serve.Answers(share, serve.Bucket(1000.0, 1.0)))
    assert ask(address, png(SEVEN))[0] == 200
    assert ask(address, png(SEVEN)) == (503, "1", "Too many are asking at this moment. Please ask again.\n")
    share.rate = 1000.0
    assert ask(address, png(SEVEN))[0] == 200


def test_while_all_else_takes_the_processor_there_are_no_live_answers(address, monkeypatch):
    total = serve.Bucket(0.0, 1e-9)
    monkeypatch.setattr(serve, "answers", serve.Answers(serve.Bucket(1000.0, 1.0), total))
    assert [ask(address, png(SEVEN))[0] for _ in range(3)] == [503] * 3
    total.rate = 1000.0
    assert ask(address, png(SEVEN))[0] == 200


def test_few_drawings_are_answered_at_once_and_none_waits(address, monkeypatch):
    go, predicting = hold(monkeypatch, serve, "predict")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = [threads.submit(ask, address, png(SEVEN)) for _ in range(serve.ANSWERS_AT_ONCE)]
        assert all(predicting.acquire(timeout=60) for _ in first)
        assert ask(address, png(SEVEN))[0] == 503
        go.set()
    assert [future.result()[0] for future in first] == [200] * serve.ANSWERS_AT_ONCE


# --- the download ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "most", "reads"), [(1, None, 2), (4, None, 3), (5, None, 4), (5, 1, 6)])
def test_pandas_reads_the_download_back_with_the_drawings(address, save, monkeypatch, db, rows, most, reads):
    """Two rows a read, and only one where that one's drawing has as many bytes as a read may have."""
    monkeypatch.setattr(serve, "ROWS", 2)
    monkeypatch.setattr(serve, "BYTES", most or serve.BYTES)
    read, fetch_export = [], db.fetch_export
    monkeypatch.setattr(db, "fetch_export", lambda *which: read.append(which) or fetch_export(*which))
    save(rows)
    with get(address) as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="predictions.csv"'
        check_download(io.BytesIO(answer.read()), db)
    assert len(read) == reads


def test_the_download_of_an_empty_table_is_its_head(address):
    assert get(address).read().decode() == ",".join(serve.COLUMNS) + "\n"
    assert get(address, "/predictions.ndjson").read() == b""


def test_the_lines_with_strokes_tell_all_of_a_row_but_its_picture(address, db, save, monkeypatch):
    monkeypatch.setattr(serve, "ROWS", 2)
    session = str(uuid.uuid4())
    save(2)  # by an earlier release
    save(3, strokes=[SEVEN], session=session)
    with get(address, "/predictions.ndjson") as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="predictions.ndjson"'
        lines = [json.loads(line) for line in answer.read().splitlines()]
    table = db.fetch_predictions()
    for told, (_, row) in zip(lines, table.iterrows(), strict=True):
        assert told.pop("set") == "visitors"
        assert told.pop("label") == (None if pd.isna(row["true_label"]) else row["true_label"])
        for name in ("created_at", "updated_at", "labelled_at"):
            assert pd.Timestamp(told.pop(name)) == row[name] or pd.isna(row[name])
        known = row.where(row.map(lambda value: isinstance(value, list) or pd.notna(value)), None)
        assert told == known[list(told)].to_dict()
        assert set(table) - set(told) == {
            *("true_label", "created_at", "updated_at", "labelled_at", "drawing", "thumbnail")
        }
    labelled = get(address, "/predictions.ndjson?labelled=1").read().splitlines()
    assert [(line["label"], line["strokes"], line["session"]) for line in map(json.loads, labelled)] == [
        (3, [[list(point) for point in SEVEN]], session)
    ]
    assert refused(address, "/predictions.ndjson?labelled=yes")[0] == 400


def test_evaluate_measures_what_was_labelled_where_it_was_drawn(address, db, prediction, tmp_path, monkeypatch, capsys):
    write_mnist(tmp_path, 80)
    monkeypatch.setattr(evaluate, "doodles", lambda rng: {})
    monkeypatch.setattr(evaluate, "PAIRS", 20)
    for label in range(10):
        drawing_id, strokes = uuid.uuid4(), placed(DIGITS[label], left=5 * label)
        db.save_prediction(drawing_id, **prediction, strokes=strokes)
        db.save_label(drawing_id, 0 if label == 9 else label)  # one is wrong
    ours = tmp_path / "ours.jsonl"
    ours.write_bytes(get(address, "/predictions.ndjson?labelled=1").read())
    command = ["evaluate.py", "--data", str(tmp_path), "--as-drawn", str(ours), "--json"]
    monkeypatch.setattr(sys, "argv", command)
    drawn, render = [], evaluate.render_strokes
    monkeypatch.setattr(evaluate, "render_strokes", lambda strokes: drawn.append(strokes) or render(strokes))
    evaluate.main()
    of_visitors = json.loads(capsys.readouterr().out)["digits"]["visitors"]
    assert (of_visitors["n"], of_visitors["accuracy"]) == (10, 90)
    assert placed(DIGITS[3], left=15) in [[[tuple(point) for point in stroke] for stroke in each] for each in drawn]


def test_a_download_that_cannot_go_on_breaks_off_instead_of_ending(address, save, monkeypatch, db):
    monkeypatch.setattr(serve, "ROWS", 2)
    save(5)
    fetch_export = db.fetch_export

    def fail_later(before, *most):
        if before:
            raise db.DatabaseError("away")
        return fetch_export(before, *most)

    monkeypatch.setattr(db, "fetch_export", fail_later)
    with pytest.raises(http.client.IncompleteRead) as error:
        get(address).read()
    assert error.value.partial.count(b"\n") == 3  # the head, and what was read before


def test_a_download_while_the_database_is_away_is_refused_with_a_sentence(address, monkeypatch, folder):
    monkeypatch.setenv("POSTGRES_HOST", str(folder / "nowhere"))
    postgres.disconnect()
    assert refused(address) == (503, "10", serve.AWAY)


def test_a_third_download_at_once_is_refused_until_another_one_ends(address, save, monkeypatch, db):
    save(1)
    go, reading = hold(monkeypatch, db, "fetch_export")
    texts = []
    threads = [threading.Thread(target=lambda: texts.append(get(address).read())) for _ in range(serve.DOWNLOADS)]
    for thread in threads:
        thread.start()
        assert reading.acquire(timeout=60)
    assert refused(address) == (503, "60", serve.BUSY)
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 2 and texts[0].count(b"\n") == 2
    assert get(address).status == 200


def test_who_goes_away_while_the_database_is_asked_gives_its_place_back_with_the_answer(address, monkeypatch, db):
    go, reading = hold(monkeypatch, db, "fetch_export")
    for _ in range(serve.DOWNLOADS):
        with socket.create_connection(address.split(":")) as connection:
            connection.sendall(b"GET /predictions.csv HTTP/1.1\r\nHost: a\r\n\r\n")
            assert reading.acquire(timeout=60)
    time.sleep(1)  # the server has seen them go
    assert refused(address) == (503, "60", serve.BUSY)
    go.set()
    deadline = time.monotonic() + 60
    while serve.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert get(address).status == 200


@pytest.mark.parametrize("stays", [False, True])
def test_a_reader_that_goes_away_or_reads_no_more_ends_its_download(address, save, monkeypatch, db, caplog, stays):
    """Before all is read: the next page is not asked for."""
    monkeypatch.setattr(serve, "ROWS", 1)
    save(1)
    (row,) = db.fetch_export(None, 1, 1)
    reads = []

    def endless(*which):
        reads.append(time.monotonic())
        return [row._replace(drawing=bytes(300_000))]

    monkeypatch.setattr(db, "fetch_export", endless)
    monkeypatch.setattr(serve, "STALLED_SECONDS", 3 if stays else serve.STALLED_SECONDS)
    answers = []
    for _ in range(serve.DOWNLOADS + 1):  # each takes a slot, and gives it back
        answers.append(answer := get(address))
        answer.read(1_000)
        if not stays:
            answer.close()
        deadline = time.monotonic() + 60
        while len(serve.under_way) == serve.DOWNLOADS or reads and time.monotonic() - reads[-1] < 1:
            assert time.monotonic() < deadline, "it goes on reading"
            time.sleep(0.1)
    assert ("a download breaks off: nobody reads it" in caplog.text) is stays


def test_a_head_request_reads_no_more_than_it_must(address, save, monkeypatch, db):
    save(3)
    monkeypatch.setattr(serve, "ROWS", 1)
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("HEAD", "/predictions.csv")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


# --- news ------------------------------------------------------------------------------------------------------------


def news(address):
    with get(address, "/news") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return json.load(answer)["news"]


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(serve, "news", serve.News())


def test_news_are_those_of_the_table_and_change_with_it(address, save, db, fresh, monkeypatch):
    monkeypatch.setattr(serve, "NEWS_SECONDS", 0)
    monkeypatch.setattr(serve, "NEWS_WAIT", 60)
    before = news(address)
    assert before == news(address) == db.fetch_news()
    save(1)
    assert news(address) == db.fetch_news() != before


def test_the_table_is_asked_for_news_once_whoever_asks(address, db, fresh, monkeypatch):
    asked = []
    monkeypatch.setattr(serve, "NEWS_SECONDS", 60)
    monkeypatch.setattr(db, "fetch_news", lambda: asked.append(1) or "some")
    assert {news(address) for _ in range(5)} == {"some"}
    assert len(asked) == 1


def test_news_say_that_the_table_cannot_be_read(address, fresh, monkeypatch, folder):
    monkeypatch.setenv("POSTGRES_HOST", str(folder / "nowhere"))
    postgres.disconnect()
    assert news(address) == "away"


# --- the whole process -----------------------------------------------------------------------------------------------


def test_the_routes_honour_the_path_that_the_page_is_served_under(db, server, tmp_path):
    app = App(tmp_path / "log", **server, STREAMLIT_SERVER_BASE_URL_PATH="some/where")
    try:
        app.wait_until_up()
        assert get(app.address, "/some/where/predictions.csv").read().startswith(b"id,created_at")
        assert news_of(app, "/some/where/news")
    finally:
        app.stop()


def news_of(app, path="/news"):
    return json.load(get(app.address, path))["news"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_download_that_nobody_reads_does_not_hold_up_the_end_of_the_process(db, save, folder, number):
    """Nor does the embedded server outlive its app, whatever ends that: a closed terminal is SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, the app would rightly not hear it
    (folder / "pgdata").mkdir()
    app = App(folder / "log", POSTGRES_HOST="", PGDATA_DIR=str(folder / "pgdata"))
    app.wait_until_up()
    sql = """
        INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit, drawing,
                                 model_version)
        SELECT gen_random_uuid(), now(), 7, 1, array_fill(0.1::float8, ARRAY[10]), 0,
               decode(repeat('89', 200000), 'hex'), 'x' FROM generate_series(1, 200)
    """
    deadline = time.monotonic() + 60
    while news_of(app) == "away":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with contextlib.closing(connect(folder / "pgdata")) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql)
    host, port = app.address.split(":")
    with socket.create_connection((host, int(port))) as reader:
        reader.sendall(f"GET /predictions.csv HTTP/1.1\r\nHost: {app.address}\r\n\r\n".encode())
        assert reader.recv(1_000).startswith(b"HTTP/1.1 200")
        app.stop(number)  # fails if it takes a minute
    assert not server_processes((folder / "pgdata" / "data").resolve())


def connect(folder):
    import psycopg2

    return psycopg2.connect(host=str(folder / "data"), user="postgres", dbname="postgres")


def test_an_idle_page_with_its_history_in_view_sends_no_message(chromium, url, db, save):
    save(3)
    sent = []

    def listen(page):
        page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(BackMsg.FromString(data))))

    with Visitor(chromium, url, before=listen, viewport={"width": 1280, "height": 1200}) as visitor:
        expect(visitor.at("history")).to_contain_text("3 drawings")
        expect(visitor.at("insights").get_by_test_id("stMetricValue").first).to_have_text("3")
        visitor.page.wait_for_timeout(2_000)
        before, asked = len(sent), []
        visitor.page.on("response", lambda response: response.url.endswith("/news") and asked.append(response.status))
        visitor.page.wait_for_timeout(8_000)
        assert sent[before:] == []
        assert 2 <= len(asked) <= 5 and set(asked) == {200}


def test_the_link_downloads_every_row_and_a_filter_does_not_break_it_off(chromium, url, db, save):
    save(1)
    postgres.writes.run("""
        INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit, drawing,
                                 model_version)
        SELECT gen_random_uuid(), created_at + i * interval '1 min', predicted_digit, confidence, probabilities,
               not_a_digit, drawing, model_version FROM predictions, generate_series(1, 2299) AS i
    """)
    with Visitor(chromium, url, viewport={"width": 1280, "height": 1600}) as visitor:
        expect(visitor.at("history")).to_contain_text("2,300 drawings")
        with visitor.page.expect_download(timeout=60_000) as file:
            visitor.page.get_by_role("link", name="Download all as CSV").click()
            visitor.at("history").get_by_role("radio", name="Mistakes").click()
        assert file.value.suggested_filename == "predictions.csv"
        check_download(file.value.path(), db)
