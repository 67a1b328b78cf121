"use strict";
// Saves the description and the tags of a version; whoever saves second learns it.
(() => {
  const { acting, call } = window.modelway;
  const section = document.getElementById("note");
  acting(section, {
    note: async ({ description, tags }) => {
      const body = { description, tags: tags.split(","), since: section.dataset.since || null };
      const { note } = await call("POST", section.dataset.url, body);
      section.dataset.since = note?.at ?? "";
      return "Saved. Load the page again to see it.";
    },
  });
})();
