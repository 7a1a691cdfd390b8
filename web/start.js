// Runs before the page is rendered: applies the chosen theme, and handles files that cannot be loaded.

try {
  const chosen = localStorage.getItem("dedup.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden: then the system's theme is used.
}

// If a module cannot be loaded, main.js does not run, so it is handled here: the page is reloaded once.
window.addEventListener(
  "error",
  ({ target }) => {
    if (target.type !== "module") return;
    if (new URL(location.href).searchParams.has("again")) {
      document.getElementById("page").textContent = "A part of this page could not be loaded. Reload the page.";
    } else {
      location.replace(`${location.pathname}?again${location.hash}`);
    }
  },
  true,
);
