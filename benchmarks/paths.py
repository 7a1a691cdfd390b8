"""Where both services have what is measured; COUNT is the reference's alone."""

BULK = "/api/v1/customers/bulk"
RECORDS = "/api/v1/customers"
ANALYZE = "/api/v1/deduplication/analyze"
COUNT = "/api/v1/deduplication/count"
COMPARE = "/api/v1/deduplication/compare-sources"
REGIONS = "/api/v1/deduplication/regions"
SELECT = "/api/v1/deduplication/customers"
