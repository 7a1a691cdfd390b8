"""The engine and the session of a request. DATABASE_URL says where the database is."""

import os
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, String, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)
SessionLocal = sessionmaker(bind=engine, autoflush=False)


class Base(DeclarativeBase):
    """What the models share."""


class Customer(Base):
    """One customer as one source system sent it."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, index=True)
    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(String(50), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), onupdate=func.now())


def get_db() -> Iterator[Session]:
    """A session for one request, closed after it."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()
