SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // By default a badge sends the document's address to Swagger's own validator.
  validatorUrl: null,
});
