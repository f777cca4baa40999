"""store/schema.py on a real server: tables of earlier releases, and what may happen as they are brought up to date."""

import threading
import time
import uuid

import psycopg2
import pytest
from helpers import until

from store import postgres, schema

# The definition of the release before schema/, as it made every table; and the one before that, with other indexes.
RELEASED = """
    SELECT pg_advisory_xact_lock(280280);  -- two that create it at once would collide
    CREATE TABLE IF NOT EXISTS predictions (
        id uuid PRIMARY KEY,
        created_at timestamptz NOT NULL CHECK (created_at BETWEEN '1999-12-31Z' AND '3000-01-02Z'),
        updated_at timestamptz NOT NULL DEFAULT now(),
        predicted_digit smallint NOT NULL CHECK (predicted_digit BETWEEN 0 AND 9),
        confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
        probabilities double precision[] NOT NULL CHECK (
            array_ndims(probabilities) = 1 AND cardinality(probabilities) = 10
            AND array_position(probabilities, NULL) IS NULL
            AND 0 <= ALL (probabilities) AND 1 >= ALL (probabilities)),
        not_a_digit double precision NOT NULL CHECK (not_a_digit BETWEEN 0 AND 1),
        true_label smallint CHECK (true_label BETWEEN 0 AND 9),
        labelled_at timestamptz,
        drawing bytea NOT NULL CHECK (octet_length(drawing) BETWEEN 1 AND 262144),
        model_version text NOT NULL CHECK (length(model_version) BETWEEN 1 AND 64),
        thumbnail bytea CHECK (octet_length(thumbnail) <= 1024),  -- of the drawing, for the history
        CHECK ((true_label IS NULL) = (labelled_at IS NULL))
    );
    -- one for each view of the page; docs/scale.md shows their plans
    CREATE INDEX IF NOT EXISTS predictions_newest
        ON predictions (created_at DESC, id DESC) INCLUDE (true_label, predicted_digit, not_a_digit);
    CREATE INDEX IF NOT EXISTS predictions_changed ON predictions (updated_at, id);
    CREATE INDEX IF NOT EXISTS predictions_labelled
        ON predictions (true_label, predicted_digit, confidence) INCLUDE (not_a_digit) WHERE true_label IS NOT NULL;
"""
EARLY = RELEASED.replace(", predicted_digit, not_a_digit)", ", predicted_digit)").replace("INCLUDE (not_a_digit) ", "")
# The statements of that release, with the values that it binds.
RELEASED_SAVE = """
    INSERT INTO predictions (id, created_at, updated_at, predicted_digit, confidence, probabilities, not_a_digit,
                             drawing, model_version, thumbnail)
    VALUES (%(id)s, %(created_at)s, %(now)s, %(digit)s, %(confidence)s, %(probabilities)s, %(not_a_digit)s,
            %(drawing)s, %(model_version)s, %(thumbnail)s)
    ON CONFLICT (id) DO UPDATE SET
        updated_at = EXCLUDED.updated_at, predicted_digit = EXCLUDED.predicted_digit, confidence = EXCLUDED.confidence,
        probabilities = EXCLUDED.probabilities, not_a_digit = EXCLUDED.not_a_digit, drawing = EXCLUDED.drawing,
        model_version = EXCLUDED.model_version, thumbnail = EXCLUDED.thumbnail
    WHERE predictions.updated_at <= EXCLUDED.updated_at
"""
RELEASED_LABEL = """
    UPDATE predictions SET
        true_label = CASE WHEN labelled_at > %(now)s THEN true_label ELSE %(digit)s END,
        labelled_at = greatest(labelled_at, %(now)s),
        updated_at = greatest(updated_at, %(now)s)
    WHERE id = %(id)s
"""
FILL = """
    INSERT INTO predictions (id, created_at, predicted_digit, confidence, probabilities, not_a_digit, true_label,
                             labelled_at, drawing, model_version)
    SELECT gen_random_uuid(), now() - i * interval '1 min', i % 10, 0.5, array_fill(0.1::float8, ARRAY[10]), 0.1,
           CASE WHEN i % 2 = 0 THEN i % 10 END, CASE WHEN i % 2 = 0 THEN now() END, '\\x89', 'x'
    FROM generate_series(1, 500) AS i
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'predictions'"
VIEWS = {"predictions_newest", "predictions_changed", "predictions_labelled", "predictions_versions"}


@pytest.fixture
def made_by(db):
    """Makes the table with this SQL, and fills it. Returns its rows."""

    def make(sql):
        postgres.writes.run("DROP TABLE predictions, predictions_schema")
        postgres.writes.run(sql)
        postgres.writes.run(FILL)
        return rows()

    yield make
    postgres.writes.run("DROP TABLE IF EXISTS predictions, predictions_schema")


def rows():
    """What a release before kept of every row; null in all that it did not know."""
    return sorted(tuple(row)[:12] for row in postgres.reads.run("SELECT * FROM predictions").rows)


def indexes():
    return dict(postgres.reads.run(INDEXES).rows)


def numbers():
    return sorted(number for (number,) in postgres.reads.run("SELECT number FROM predictions_schema").rows)


@pytest.fixture
def reader(db, server):
    """A connection that reads the table, and goes on with its transaction until it is closed."""
    connection = psycopg2.connect(host=server["POSTGRES_HOST"], user="postgres", dbname="postgres")
    connection.set_session(isolation_level="REPEATABLE READ")
    yield connection
    connection.close()


def read(reader):
    reader.cursor().execute("SELECT count(*) FROM predictions")


def all_at_once(*functions):
    """Run them in threads; returns what they raised."""
    failures = []

    def run(function):
        try:
            function()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


# --- a table of an earlier release -----------------------------------------------------------------------------------


def test_a_new_database_gets_the_table_with_an_index_for_each_view_of_the_page(db):
    db.build_indexes()
    assert indexes().keys() == {"predictions_pkey"} | VIEWS
    assert numbers() == sorted(schema.FILES)


@pytest.mark.parametrize("sql", [RELEASED, EARLY])
def test_a_table_of_an_earlier_release_is_taken_over_with_every_row(db, made_by, sql):
    before = made_by(sql)
    db.create_table()
    db.build_indexes()
    assert rows() == before and len(before) == 500
    assert numbers() == sorted(schema.FILES)
    assert len(db.fetch_page(limit=1000)) == 500
    assert db.fetch_predictions()[["strokes", "session", "label_source"]].isna().all(axis=None)


def test_an_earlier_table_that_was_brought_up_to_date_is_as_a_new_one(db, made_by):
    """Columns, constraints and indexes are the same."""

    def definition():
        constraints = postgres.reads.run(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'predictions'::regclass"
        )
        columns = postgres.reads.run(
            "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_name = 'predictions' ORDER BY ordinal_position"
        )
        return sorted(constraints.rows), columns.rows, indexes()

    new = definition()
    made_by(RELEASED)
    db.create_table()
    assert definition() == new


def test_the_release_before_goes_on_working_beside_the_new_one(db, made_by, prediction):
    made_by(RELEASED)
    db.create_table()
    db.build_indexes()
    drawing_id, now = str(uuid.uuid4()), prediction["created_at"]
    row = prediction | {"id": drawing_id, "now": now, "thumbnail": None}
    for digit in (3, 4):
        postgres.writes.run(RELEASED_SAVE, row | {"digit": digit, "drawing": psycopg2.Binary(b"\x89PNG")})
    postgres.writes.run(RELEASED_LABEL, {"id": drawing_id, "digit": 5, "now": now})
    saved = db.fetch_drawing(drawing_id)
    assert (saved.predicted_digit, saved.true_label) == (4, 5)
    postgres.writes.run(RELEASED)  # as it does where it finds no table
    assert len(rows()) == 501


def test_an_older_backup_that_is_restored_is_brought_up_to_date_as_well(db, made_by):
    db.build_indexes()
    postgres.writes.run("DROP TABLE predictions")
    postgres.writes.run(EARLY)
    postgres.writes.run(FILL)
    db.build_indexes()
    assert "not_a_digit" in indexes()["predictions_newest"] and len(rows()) == 500


def test_indexes_that_lack_a_column_are_built_anew_and_the_old_ones_go(db, made_by):
    made_by(EARLY)
    db.create_table()
    assert not any("not_a_digit" in definition for definition in indexes().values())  # saves do not wait for that
    db.build_indexes()
    assert indexes().keys() == {"predictions_pkey"} | VIEWS
    assert all("not_a_digit" in indexes()[name] for name in ("predictions_newest", "predictions_labelled"))


def test_indexes_that_are_as_they_should_be_are_not_built_again(db, made_by):
    made_by(RELEASED)
    oids = "SELECT indexrelid FROM pg_index WHERE indrelid = 'predictions'::regclass ORDER BY 1"
    before = postgres.reads.run(oids).rows
    db.create_table()
    db.build_indexes()
    assert set(before) < set(postgres.reads.run(oids).rows)  # and 0005 has made another


# --- while it is brought up to date ----------------------------------------------------------------------------------


def test_saves_go_on_while_an_index_is_built(db, made_by, prediction, reader):
    """The build waits for what a reader has begun before it; a save does not wait for the build."""
    made_by(EARLY)
    db.create_table()
    read(reader)
    building = threading.Thread(target=db.build_indexes)
    building.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND wait_event_type = 'Lock'"
    until(lambda: postgres.reads.run(waits).rows[0][0])
    db.save_prediction(drawing_id := uuid.uuid4(), **prediction)
    db.save_label(drawing_id, 3)
    assert building.is_alive()
    reader.close()
    building.join(60)
    assert "not_a_digit" in indexes()["predictions_newest"]


@pytest.mark.parametrize("index", ["predictions_newest", "predictions_labelled"])
def test_an_index_whose_build_was_broken_off_is_built_again(db, made_by, monkeypatch, reader, index):
    """Ended while it waits for a reader, as a process is that somebody kills."""
    made_by(EARLY)
    db.create_table()
    if index == "predictions_labelled":  # the build is broken off between the two at first
        with monkeypatch.context() as patch, pytest.raises(db.DatabaseError):
            patch.setitem(schema.FILES, 2, schema.FILES[2].replace("NOT EXISTS predictions_labelled", "nonsense"))
            db.build_indexes()
    read(reader)
    building = threading.Thread(target=all_at_once, args=(db.build_indexes,))
    building.start()
    waiting = "FROM pg_stat_activity WHERE query LIKE %(like)s AND wait_event = 'virtualxid'"
    like = {"like": f"CREATE INDEX CONC%{index}%"}
    until(lambda: postgres.reads.run(f"SELECT pg_terminate_backend(pid) {waiting}", like).rows)
    building.join(60)
    reader.close()
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    assert postgres.reads.run(invalid).rows == [(index,)]
    db.build_indexes()
    assert postgres.reads.run(invalid).rows == []
    assert indexes().keys() == {"predictions_pkey"} | VIEWS
    assert all("not_a_digit" in indexes()[name] for name in ("predictions_newest", "predictions_labelled"))


def test_a_file_that_was_broken_off_leaves_nothing_and_runs_again(db, made_by, monkeypatch):
    before = made_by(RELEASED)
    monkeypatch.setitem(schema.FILES, 1, "ALTER TABLE predictions ADD COLUMN more jsonb; SELECT 1 / 0")
    with pytest.raises(db.DatabaseError):
        db.create_table()
    assert rows() == before
    monkeypatch.setitem(schema.FILES, 1, "ALTER TABLE predictions ADD COLUMN more jsonb")
    db.create_table()
    assert rows() == before and postgres.reads.run("SELECT more FROM predictions").rowcount == 500
    assert numbers() == sorted(schema.FILES.keys() - schema.INDEXES)


@pytest.mark.parametrize("sql", ["DROP TABLE IF EXISTS predictions", RELEASED, EARLY])
def test_many_processes_may_bring_it_up_to_date_at_once(db, made_by, sql):
    made_by(RELEASED)
    postgres.writes.run("DROP TABLE predictions")
    postgres.writes.run(sql)
    assert all_at_once(*[db.create_table] * 8) == []
    assert all_at_once(*[db.build_indexes] * 4) == []
    assert numbers() == sorted(schema.FILES)
    assert indexes().keys() == {"predictions_pkey"} | VIEWS


def test_each_file_runs_once(db, made_by, monkeypatch):
    made_by(RELEASED)
    monkeypatch.setitem(schema.FILES, 1, "ALTER TABLE predictions ADD COLUMN more jsonb")
    for _ in range(3):  # the second time the column would be there already
        db.create_table()
    assert all_at_once(*[db.create_table] * 4) == []


def test_a_process_waits_for_another_that_is_at_it_and_says_so_in_the_end(db, made_by, reader, monkeypatch):
    made_by(RELEASED)
    monkeypatch.setattr(schema, "TURN_SECONDS", 0.5)
    reader.cursor().execute(f"SELECT pg_advisory_lock({schema.UPGRADE_LOCK})")
    with pytest.raises(db.DatabaseError, match="another process has been changing the table"):
        db.create_table()
    monkeypatch.setattr(schema, "TURN_SECONDS", 60)
    threading.Timer(1, reader.close).start()
    db.create_table()
    assert 1 in numbers()


def test_a_change_of_the_table_gives_up_its_lock_soon_as_saves_wait_behind_it(db, made_by, reader, monkeypatch):
    made_by(RELEASED)
    monkeypatch.setitem(schema.FILES, 1, "ALTER TABLE predictions ADD COLUMN more jsonb")
    read(reader)
    began = time.monotonic()
    with pytest.raises(db.DatabaseError, match="lock timeout"):
        db.create_table()
    assert time.monotonic() - began < 20
    reader.close()
    db.create_table()


def test_a_file_may_take_longer_than_a_write(db, made_by, monkeypatch):
    made_by(RELEASED)
    monkeypatch.setattr(postgres, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(postgres, "writes", postgres.Pool(1, 0.5))
    monkeypatch.setitem(schema.FILES, 1, "SELECT pg_sleep(1.5)")
    db.create_table()
    assert 1 in numbers()


# --- a user with fewer rights ----------------------------------------------------------------------------------------


@pytest.fixture
def guest(db, made_by, monkeypatch):
    """Has `db` go on as a user who may read and write the rows, and nothing else."""
    postgres.writes.run("DROP ROLE IF EXISTS guest")
    postgres.writes.run("CREATE ROLE guest LOGIN")

    def go_on():
        postgres.writes.run("GRANT SELECT, INSERT, UPDATE ON predictions TO guest")
        postgres.disconnect()
        monkeypatch.setenv("POSTGRES_USER", "guest")

    yield go_on
    monkeypatch.setenv("POSTGRES_USER", "postgres")
    postgres.disconnect()
    postgres.writes.run("DROP OWNED BY guest; DROP ROLE guest")


def test_a_user_without_the_right_to_create_finds_a_current_table_and_goes_on(db, guest, prediction, caplog):
    db.build_indexes()
    guest()
    db.create_table()
    db.build_indexes()
    db.save_prediction(uuid.uuid4(), **prediction)
    assert len(db.fetch_page()) == 1
    assert "goes on" not in caplog.text


def test_a_user_without_the_right_to_create_goes_on_without_an_index(db, guest, prediction, caplog):
    postgres.writes.run("DELETE FROM predictions_schema WHERE number = ANY(%(them)s)", {"them": list(schema.INDEXES)})
    guest()
    db.build_indexes()
    db.save_prediction(uuid.uuid4(), **prediction)
    assert len(db.fetch_page()) == 1
    assert "goes on with the indexes that it has" in caplog.text


@pytest.mark.parametrize("sql", [RELEASED, EARLY])
def test_a_user_without_the_right_to_change_an_earlier_table_is_told_so(db, guest, made_by, sql):
    before = made_by(sql)
    guest()
    with pytest.raises(db.DatabaseError, match="grant POSTGRES_USER"):
        db.create_table()
    assert rows() == before


def test_a_user_without_the_right_to_create_is_told_what_is_missing_where_there_is_no_table(db, guest):
    guest()
    postgres.disconnect()
    with pytest.MonkeyPatch.context() as owner:
        owner.setenv("POSTGRES_USER", "postgres")
        postgres.writes.run("DROP TABLE predictions")
    postgres.disconnect()
    with pytest.raises(db.DatabaseError, match="grant POSTGRES_USER"):
        db.create_table()
