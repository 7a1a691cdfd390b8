// Before anything is drawn: the theme that was chosen here, if one was; and what to do when a file does not arrive.

try {
  const chosen = localStorage.getItem("dedup.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's theme it is.
}

// A module that is missing fails the page's one script, and there is nobody else to say so. Once it is tried again.
window.addEventListener(
  "error",
  ({ target }) => {
    if (target.type !== "module") return;
    if (new URL(location.href).searchParams.has("again")) {
      document.getElementById("page").textContent = "A part of this page did not arrive. Please load it again.";
    } else {
      location.replace(`${location.pathname}?again${location.hash}`);
    }
  },
  true,
);
