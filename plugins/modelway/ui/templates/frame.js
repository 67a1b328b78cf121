"use strict";
// Inside Airflow's frame: use its theme, and let its window follow links that the frame's sandbox forbids: to Airflow's
// own pages, and to other sites, which open in a new tab.
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
    const link = event.target.closest("a[data-airflow], a[target=_blank]");
    if (!link || event.ctrlKey || event.metaKey || event.button !== 0) return;
    event.preventDefault();
    const door = outer.createElement("a");
    door.href = link.href;
    door.target = link.target;
    door.rel = link.rel;
    outer.body.append(door);
    door.click();
    door.remove();
  });
})();
