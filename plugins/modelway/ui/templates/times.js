"use strict";
// Times in the zone that is chosen on Airflow's own pages, else in the browser's. The server writes UTC, which stays as
// the title; without this script the page shows it.
(() => {
  const text = (iso, zone, toMinute) => {
    const options = {
      timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
      second: "2-digit", hourCycle: "h23", timeZoneName: "short",
    };
    const found = new Intl.DateTimeFormat("en-GB", options).formatToParts(new Date(iso));
    const part = Object.fromEntries(found.map((each) => [each.type, each.value]));
    const clock = `${part.hour}:${part.minute}${toMinute ? "" : `:${part.second}`}`;
    return `${part.year}-${part.month}-${part.day} ${clock} ${part.timeZoneName}`;
  };
  const zone = (stored, own) => {
    const wanted = (stored ?? "").replace(/^"|"$/g, "");
    try {
      new Intl.DateTimeFormat("en-GB", { timeZone: wanted });
      return wanted || own;
    } catch {
      return own;
    }
  };
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const chosen = zone(localStorage.getItem("timezone"), own);
  const localise = (root) => {
    for (const each of root.querySelectorAll("time[datetime]:not([title])")) {
      each.title = each.textContent;
      each.textContent = text(each.dateTime, chosen, each.dataset.to === "minutes");
    }
  };
  localise(document);
  // What other scripts add later.
  new MutationObserver(() => localise(document)).observe(document.body, { childList: true, subtree: true });
  globalThis.modelwayTimes = { text, zone };
})();
