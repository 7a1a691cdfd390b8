"""The rights of the application's role: it can use the tables of the owner, but not alter them."""

from pg8000.native import Connection, identifier, literal

from dedup.settings import Settings
from dedup.store.connection import Database

_RDS_IAM = "rds_iam"
"""RDS grants sign-in by IAM through this role. Other databases don't have it."""


def admit(settings: Settings) -> None:
    """Grants `db_app_user` the use of the current tables. A role that signs in by IAM is created if it is missing; one
    with a password must exist, because its password is not known here."""
    database = Database(settings)
    try:
        database.write(lambda connection: _admit(connection, settings), repeatable=True)
    finally:
        database.close()


def _admit(connection: Connection, settings: Settings) -> None:
    user = identifier(settings.db_app_user)
    if settings.db_app_iam_auth and not connection.run(
        f"SELECT FROM pg_roles WHERE rolname = {literal(settings.db_app_user)}"
    ):
        seconds = Settings.model_fields["db_statement_timeout"].default
        # RDS Proxy does not allow session settings. A direct connection sets its own, which override these.
        connection.run(
            f"""CREATE ROLE {user} LOGIN; ALTER ROLE {user} SET standard_conforming_strings = on;
                ALTER ROLE {user} SET statement_timeout = '{seconds}s';
                ALTER ROLE {user} SET idle_in_transaction_session_timeout = '60s'"""
        )
        if connection.run(f"SELECT FROM pg_roles WHERE rolname = '{_RDS_IAM}'"):
            connection.run(f"GRANT {_RDS_IAM} TO {user}")
    # The application creates tables for staged rows and for matching runs, in schemas of their own.
    connection.run(
        f"""GRANT USAGE ON SCHEMA public TO {user};
            GRANT USAGE, CREATE ON SCHEMA staging, matching TO {user};
            GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {user};
            GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {user};
            REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON migration FROM {user}"""
    )
