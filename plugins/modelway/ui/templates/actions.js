"use strict";
// Moves traffic by Airflow's own API, with the session and the rights of who looks at the page; each action is confirmed.
(() => {
  const section = document.getElementById("actions");
  const outcome = document.getElementById("outcome");
  const actions = JSON.parse(section.dataset.actions);
  const dag = `${section.dataset.airflowUrl}/api/v2/dags/${encodeURIComponent(actions.dag)}`;
  const say = (text, isBad) => { outcome.textContent = text; outcome.className = isBad ? "warn" : "good"; };
  const refusals = {
    401: "Your session has ended: sign in to Airflow again.",
    403: "Airflow does not let you do this: it needs the right to edit this DAG's runs.",
    404: "Airflow does not know this DAG, or the run, any more.",
    409: "Somebody else did this a moment ago: load the page again.",
  };
  const call = async (method, url, body) => {
    const answer = await fetch(url, {
      method, credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    if (answer.ok) return answer.json();
    const detail = await answer.json().catch(() => ({}));
    throw new Error(refusals[answer.status] || `Airflow answers ${answer.status}: ${JSON.stringify(detail.detail ?? detail)}`);
  };
  const trigger = (conf) => call("POST", `${dag}/dagRuns`, { logical_date: null, conf });
  const acts = {
    release: async (given) => {
      const run = await trigger({ ...actions.release, version: given.version, reason: given.reason });
      return `The run ${run.dag_run_id} rolls version ${given.version} out.`;
    },
    rollback: async (given) => {
      const run = await trigger({ ...actions.rollback, reason: given.reason });
      return `The run ${run.dag_run_id} returns the traffic to version ${actions.rollback.version}.`;
    },
    end: async (given) => {
      const url = `${dag}/dagRuns/${encodeURIComponent(actions.end)}`;
      const state = await fetch(url, { credentials: "same-origin" }).then((answer) => answer.ok ? answer.json() : {});
      if (state.state && !["running", "queued"].includes(state.state)) throw new Error(refusals[409]);
      await call("PATCH", url, { state: "failed", note: given.reason });
      return `The run ${actions.end} is ended; its traffic returns within seconds.`;
    },
  };
  section.hidden = false;
  section.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button");
    if (!button.dataset.sure) {
      button.dataset.sure = "yes";
      button.dataset.text = button.textContent;
      button.textContent = "Yes, do it";
      say("Press again to confirm.");
      return;
    }
    button.disabled = true;
    try {
      say(await acts[form.dataset.action](Object.fromEntries(new FormData(form))));
    } catch (error) {
      say(error.message, true);
    }
    button.textContent = button.dataset.text;
    delete button.dataset.sure;
    button.disabled = false;
  });
})();
