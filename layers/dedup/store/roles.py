"""What the owner of the tables lets the application's role do: use them, and change none."""

from pg8000.native import Connection, identifier, literal

from dedup.settings import Settings
from dedup.store.connection import Database

_RDS_IAM = "rds_iam"
"""RDS's role of those who sign in by IAM. Elsewhere there is none."""


def admit(settings: Settings) -> None:
    """Lets `db_app_user` use the tables as they are now. Where it signs in by IAM it is made when it is missing; where
    it has a password, whoever knows that has made it."""
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
        # RDS Proxy lets a session set nothing of its own; one that comes past it has its own, which wins.
        connection.run(
            f"""CREATE ROLE {user} LOGIN; ALTER ROLE {user} SET standard_conforming_strings = on;
                ALTER ROLE {user} SET statement_timeout = '{seconds}s';
                ALTER ROLE {user} SET idle_in_transaction_session_timeout = '60s'"""
        )
        if connection.run(f"SELECT FROM pg_roles WHERE rolname = '{_RDS_IAM}'"):
            connection.run(f"GRANT {_RDS_IAM} TO {user}")
    # Rows that wait, and what runs of the matching found, are in tables that the application makes, in schemas that
    # have no others.
    connection.run(
        f"""GRANT USAGE ON SCHEMA public TO {user};
            GRANT USAGE, CREATE ON SCHEMA staging, matching TO {user};
            GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {user};
            GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {user};
            REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON migration FROM {user}"""
    )
