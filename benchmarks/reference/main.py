"""The service: rows in a table, loaded as objects, compared as Python's sets."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.reference import schemas
from benchmarks.reference.database import Base, Customer, engine, get_db

Base.metadata.create_all(engine, checkfirst=True)

app = FastAPI(title="Customer Deduplication API")

Db = Annotated[Session, Depends(get_db)]


@app.get("/health")
def health() -> dict[str, str]:
    """That the service runs."""
    return {"status": "healthy"}


@app.post("/api/v1/customers/bulk", status_code=201)
def bulk_upload(data: schemas.CustomerBulkCreate, db: Db) -> schemas.Message:
    """Stores many records in one transaction."""
    customers = [Customer(**customer.model_dump()) for customer in data.customers]
    db.add_all(customers)
    db.commit()
    return schemas.Message(
        message=f"Successfully uploaded {len(customers)} customer records", details={"count": len(customers)}
    )


@app.get("/api/v1/customers", response_model=list[schemas.CustomerResponse])
def list_customers(db: Db, skip: int = 0, limit: int | None = None) -> Sequence[Customer]:
    """The stored records in id order: all of them, or a page."""
    return db.scalars(select(Customer).order_by(Customer.id).offset(skip).limit(limit)).all()


@app.get("/api/v1/customers/source/{source}", response_model=list[schemas.CustomerResponse])
def by_source(source: schemas.Source, db: Db, skip: int = 0, limit: int | None = None) -> Sequence[Customer]:
    """The stored records of one source in id order: all of them, or a page."""
    query = select(Customer).where(Customer.source == source).order_by(Customer.id)
    return db.scalars(query.offset(skip).limit(limit)).all()


@app.get("/api/v1/deduplication/analyze")
def analyze(db: Db) -> schemas.Analysis:
    """Counts the customers, and lists them."""
    customers = db.scalars(select(Customer)).all()
    unique = {customer.customer_id for customer in customers}
    return schemas.Analysis(
        total_records=len(customers),
        unique_customers=len(unique),
        duplicates_found=len(customers) - len(unique),
        unique_customer_ids=sorted(unique),
    )


@app.get("/api/v1/deduplication/count")
def count_distinct(db: Db) -> int:
    """Counts the customers in the database: not what the service did, but the quickest that it could do."""
    return db.scalars(select(func.count(Customer.customer_id.distinct()))).one()


@app.get("/api/v1/deduplication/compare-sources")
def compare(db: Db) -> schemas.Comparison:
    """Compares the sources."""
    salesforce, hubspot, internal = (
        {customer.customer_id for customer in db.scalars(select(Customer).where(Customer.source == source)).all()}
        for source in schemas.Source
    )
    return schemas.Comparison(
        in_all_sources=sorted(salesforce & hubspot & internal),
        only_in_salesforce=sorted(salesforce - hubspot - internal),
        only_in_hubspot=sorted(hubspot - salesforce - internal),
        only_in_internal=sorted(internal - salesforce - hubspot),
        salesforce_count=len(salesforce),
        hubspot_count=len(hubspot),
        internal_count=len(internal),
    )


@app.delete("/api/v1/customers")
def clear(db: Db) -> schemas.Message:
    """Deletes every record."""
    deleted = db.query(Customer).delete()
    db.commit()
    return schemas.Message(message="Successfully deleted all customer records", details={"deleted_count": deleted})
