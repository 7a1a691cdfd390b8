"""HTTP: everything between API Gateway and the services."""
