SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Without this, a badge sends the document's URL to Swagger's public validator.
  validatorUrl: null,
});
