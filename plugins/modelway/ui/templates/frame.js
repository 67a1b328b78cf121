"use strict";
// Inside Airflow's frame: use its theme, and open its pages in its own window, which the frame's sandbox forbids to links.
(() => {
  const framed = window.parent !== window;
  const root = document.documentElement;
  const outer = framed ? window.parent.document : null;
  const dress = () => {
    const theme = outer ? (outer.documentElement.classList.contains("dark") ? "dark" : "light") : localStorage.getItem("theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  };
  dress();
  if (!outer) return;
  new MutationObserver(dress).observe(outer.documentElement, { attributes: true, attributeFilter: ["class"] });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow]");
    if (!link || event.ctrlKey || event.metaKey || event.button !== 0) return;
    event.preventDefault();
    const door = outer.createElement("a");
    door.href = link.href;
    outer.body.append(door);
    door.click();
    door.remove();
  });
})();
