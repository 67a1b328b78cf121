"use strict";
// Forms that act, with the session and the rights of the page's reader: each is confirmed by a second press.
window.modelway = (() => {
  const refusals = {
    401: "Your session has ended: sign in to Airflow again.",
    403: "Airflow does not let you do this: it needs the right to edit this DAG and its runs.",
    404: "Airflow does not know this DAG, or the run, any more.",
    409: "Somebody else did this a moment ago: load the page again.",
  };
  // Our own answers are sentences, and stand as they are; Airflow's are translated.
  const sentence = (status, found) => typeof found.error === "string" ? found.detail : refusals[status] ||
    `Airflow answers ${status}: ${JSON.stringify(found.detail ?? found)}`;
  const call = async (method, url, body) => {
    const answer = await fetch(url, {
      method, credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    }).catch(() => { throw new Error("Airflow cannot be reached: nothing is known of what became of this."); });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    throw new Error(sentence(answer.status, found));
  };
  const disarm = (button) => {
    button.textContent = button.dataset.text ?? button.textContent;
    delete button.dataset.sure;
  };
  const acting = (section, acts) => {
    const outcome = section.querySelector("[role=status]");
    const say = (text, isBad) => { outcome.textContent = text; outcome.className = isBad ? "warn" : "good"; };
    section.hidden = false;
    // What was changed after the first press is confirmed again.
    section.addEventListener("input", (event) => disarm(event.target.form.querySelector("button")));
    section.addEventListener("submit", async (event) => {
      event.preventDefault();
      const form = event.target;
      const button = form.querySelector("button");
      if (!button.dataset.sure) {
        section.querySelectorAll("button[data-sure]").forEach(disarm);
        button.dataset.sure = "yes";
        button.dataset.text = button.textContent;
        button.textContent = `Yes, ${button.textContent.toLowerCase()}`;
        say("Press again to confirm.");
        return;
      }
      button.disabled = true;
      try {
        say(await acts[form.dataset.action](Object.fromEntries(new FormData(form))));
      } catch (error) {
        say(error.message, true);
      }
      disarm(button);
      button.disabled = false;
    });
  };
  return { acting, call };
})();
