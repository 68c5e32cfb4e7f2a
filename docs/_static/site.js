// What scrolls sideways (code, tables, formulas) can be reached by the Tab key, as long as it scrolls.
function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, div.math")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }
}
window.addEventListener("load", reach);
window.addEventListener("resize", reach);
