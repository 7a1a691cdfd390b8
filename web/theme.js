// Before anything is drawn: the theme that was chosen here, if one was.
try {
  const chosen = localStorage.getItem("dedup.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's theme it is.
}
