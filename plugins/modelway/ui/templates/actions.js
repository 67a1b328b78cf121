"use strict";
// Moves traffic by Airflow's own API, with the session and the rights of who looks at the page; each action is confirmed.
(() => {
  const section = document.getElementById("actions");
  const outcome = document.getElementById("outcome");
  const actions = JSON.parse(section.dataset.actions);
  const airflow = section.dataset.airflowUrl;
  const dag = `${airflow}/api/v2/dags/${encodeURIComponent(actions.dag)}`;
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
      const { dag: owner, run } = actions.end;
      const url = `${airflow}/api/v2/dags/${encodeURIComponent(owner)}/dagRuns/${encodeURIComponent(run)}`;
      const found = await fetch(url, { credentials: "same-origin" }).then((answer) => answer.ok ? answer.json() : {});
      if (found.state && !["running", "queued"].includes(found.state))
        throw new Error(`The run ${run} is over (${found.state}): somebody else was faster, or it ended by itself. Load the ` +
          "page again; a rollout that still shows as running then is closed by releasing the version that shall serve.");
      await call("PATCH", url, { state: "failed", note: given.reason });
      return `The run ${run} is ended; its traffic returns within seconds.`;
    },
  };
  const disarm = (button) => {
    button.textContent = button.dataset.text ?? button.textContent;
    delete button.dataset.sure;
  };
  section.hidden = false;
  // What was changed after the first press is confirmed again.
  section.addEventListener("input", (event) => disarm(event.target.form.querySelector("button")));
  section.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button");
    if (!button.dataset.sure) {
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
})();
