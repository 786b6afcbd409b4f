"""The walls between owners: queries that start from one, and PostgreSQL's row-level security."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import delete, func, insert, make_url, select, text, update
from sqlalchemy.exc import ProgrammingError

from app.store import artifacts, checkpoints, jobs, migrate, names, trained_models
from app.store.database import CALLER_ROLE
from app.store.tables import (
    ApiKey,
    Artifact,
    ArtifactChunk,
    Base,
    Checkpoint,
    CurvePoint,
    Dataset,
    IdempotencyKey,
    Job,
    ModelName,
    NameSwitch,
    TrainedModel,
    TrainingUsage,
    new_id,
    now,
)
from tests.app.store.rows import OWNER, add_dataset, add_job, look, succeed, take

OF_NOBODY = {"api_keys", "rate_limits"}
"""Tables that callers have no access to."""

POINT = {"step": 1, "train_loss": 1.0, "learning_rate": 0.1, "seconds": 0.1, "metrics": {}}


@pytest.fixture
def postgres(postgres_url, connect):
    return connect(postgres_url)


@pytest.fixture
def filled(postgres):
    """A database with a row of one owner's in every table that callers have access to."""
    dataset = add_dataset(postgres)
    claim = take(postgres, add_job(postgres, dataset))
    with postgres.writing() as session:
        jobs.record_points(session, claim, [{"epoch": 1, **POINT}])
        checkpoints.save(session, claim, b"state", 1, 1, [])
        jobs.heartbeat(session, claim, 30)
        session.add(IdempotencyKey(owner=OWNER, key="k", fingerprint="f", created_at=0.0))
    model = succeed(postgres, take(postgres, add_job(postgres, dataset)))
    with postgres.writing() as session:
        names.switch(session, OWNER, "name", model)
    return postgres


CHANGED = [Dataset, Job, CurvePoint, Artifact, ArtifactChunk, Checkpoint, TrainedModel]
CHANGED += [IdempotencyKey, ModelName, NameSwitch]
TABLES = [*CHANGED, TrainingUsage]


def test_every_table_that_callers_have_access_to_has_row_level_security(postgres):
    assert {table.__tablename__ for table in TABLES} == set(Base.metadata.tables) - OF_NOBODY
    with postgres.reading() as session:
        secured = (
            select(text("relname")).select_from(text("pg_class")).where(text("relrowsecurity"))
        )
        assert set(session.scalars(secured)) == set(Base.metadata.tables) - OF_NOBODY


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__tablename__)
def test_a_row_shows_itself_to_its_owner_and_to_the_service_alone(filled, table):
    def seen(owner=None):
        with filled.reading(owner) as session:
            return session.scalar(select(func.count()).select_from(table))

    assert seen() > 0
    assert seen(OWNER) == seen()
    assert seen("charles") == 0


@pytest.mark.parametrize("table", CHANGED, ids=lambda table: table.__tablename__)
def test_nobody_changes_or_deletes_the_row_of_another(filled, table):
    column = next(iter(table.__table__.primary_key.columns))
    with filled.writing("charles") as session:
        assert session.execute(update(table).values({column.key: column})).rowcount == 0
        assert session.execute(delete(table)).rowcount == 0


@pytest.mark.parametrize("act", [delete, insert, update])
def test_nobody_changes_what_counts_for_a_quota(filled, act):
    statement = act(TrainingUsage)
    if act is not delete:
        statement = statement.values(owner=OWNER, hour=0, worker="", seconds=0.0)
    with pytest.raises(ProgrammingError, match="denied"), filled.writing(OWNER) as session:
        session.execute(statement)


def test_nobody_writes_a_row_for_another(postgres):
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        postgres.writing("charles") as session,
    ):
        artifacts.write(session, OWNER, b"bytes")


def test_nobody_adds_to_what_is_anothers(filled):
    with filled.reading() as session:
        job = session.scalar(select(CurvePoint.job_id))
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        filled.writing("charles") as session,
    ):
        session.execute(insert(CurvePoint).values(job_id=job, epoch=2, **POINT))


@pytest.mark.parametrize("table", sorted(OF_NOBODY))
def test_callers_do_not_reach_the_keys(postgres, table):
    with pytest.raises(ProgrammingError, match="permission denied"), postgres.reading("a") as mine:
        mine.execute(select(func.count()).select_from(Base.metadata.tables[table]))


def test_the_role_sees_nothing_unless_it_is_said_for_whom(filled):
    with filled.reading() as session:
        session.execute(text(f"SET LOCAL ROLE {CALLER_ROLE}"))
        with pytest.raises(ProgrammingError, match=r"chainrule\.owner"):
            session.execute(select(Dataset))


def test_a_connection_that_served_one_owner_serves_the_next_and_the_service(filled):
    for owner, count in [("charles", 0), (OWNER, 1), (None, 1), ("charles", 0)] * 10:
        with filled.reading(owner) as session:
            assert session.scalar(select(func.count()).select_from(Dataset)) == count


def test_a_session_stays_confined_after_a_rollback(filled):
    with filled.reading("charles") as session:
        assert session.scalars(select(Dataset)).all() == []
        session.rollback()
        assert session.scalars(select(Dataset)).all() == []


def test_an_owner_removes_a_model_with_its_bytes(filled):
    with filled.reading() as session:
        model = session.scalar(select(TrainedModel))
    with filled.writing(OWNER) as session:
        names.remove(session, OWNER, "name")
        trained_models.remove(session, OWNER, model.id)
    with filled.reading() as session:
        assert session.get(Artifact, model.artifact_id) is None


@pytest.mark.parametrize("name", ["charles'; DROP TABLE jobs; --", "*", "", "postgres", "%"])
def test_no_name_of_an_owner_is_more_than_a_name(filled, name):
    with filled.reading(name) as session:
        assert session.scalars(select(Dataset)).all() == []


def test_bytes_from_before_get_the_owner_of_their_row(empty_database_url, connect):
    database = connect(empty_database_url)
    migrate.upgrade(database)
    claim = take(database, add_job(database, add_dataset(database)))
    with database.writing() as session:
        checkpoints.save(session, claim, b"state", 1, 1, [])
        lost = artifacts.write(session, "nobody knows", b"lost")
    model_id = succeed(database, take(database, add_job(database, add_dataset(database))))
    migrate.downgrade(database, "0004")
    migrate.upgrade(database)
    with database.reading() as session:
        owners = dict(session.execute(select(Artifact.id, Artifact.owner)).all())
        model = session.get_one(TrainedModel, model_id)
        assert artifacts.read(session, model.artifact_id) == b"weights"
        assert checkpoints.load(session, claim.job_id) == (b"state", [])
    assert owners.pop(lost) == ""
    assert list(owners.values()) == [OWNER, OWNER]
    assert look(database, claim.job_id).owner == OWNER


def test_a_login_that_may_not_make_roles_is_told_what_to_do(empty_postgres_url, connect):
    login = f"plain_{new_id('x')}"
    administrator = psycopg.connect(empty_postgres_url, autocommit=True)
    administrator.execute(f"CREATE ROLE {login} LOGIN")
    administrator.execute(f"GRANT ALL ON SCHEMA public TO {login}")
    database = connect(make_url(empty_postgres_url).set(username=login).render_as_string())
    try:
        told = 0
        while not migrate.is_current(database):  # one step where another has made the role, or two
            try:
                migrate.upgrade(database)
            except ProgrammingError as error:
                told += 1
                administrator.execute(error.orig.diag.message_hint.split("migrate again: ")[1])
        assert told in (1, 2)
        with database.writing() as session:
            session.add(ApiKey(id="k", owner=OWNER, scopes=[], sha256="", created_at=now()))
        add_dataset(database)
        with database.reading("charles") as session:
            assert session.scalars(select(Dataset)).all() == []
    finally:
        database.dispose()
        administrator.execute(f"DROP OWNED BY {login}")
        administrator.execute(f"DROP ROLE {login}")
        administrator.close()
