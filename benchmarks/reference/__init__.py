"""The reference: the service that one usually writes for this job, with FastAPI, SQLAlchemy's ORM and psycopg2."""
