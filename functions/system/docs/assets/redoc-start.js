const fonts = "system-ui, sans-serif";
const theme = { typography: { fontFamily: fonts, headings: { fontFamily: fonts } } };

Redoc.init("openapi.json", { theme }, document.getElementById("ui"));
