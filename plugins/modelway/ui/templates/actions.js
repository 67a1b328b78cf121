"use strict";
// Moves an endpoint's traffic: by Airflow's own API, or, where a rollout runs, by a wish in its record.
(() => {
  const { acting, call } = window.modelway;
  const section = document.getElementById("actions");
  const actions = JSON.parse(section.dataset.actions);
  const airflow = section.dataset.airflowUrl;
  const dag = `${airflow}/api/v2/dags/${encodeURIComponent(actions.dag)}`;
  const trigger = (conf) => call("POST", `${dag}/dagRuns`, { logical_date: null, conf });
  const runUrl = actions.run &&
    `${airflow}/api/v2/dags/${encodeURIComponent(actions.run.dag)}/dagRuns/${encodeURIComponent(actions.run.run)}`;
  // The state of the rollout's run; "gone" where Airflow has none, undefined where it does not say.
  const state = async () => {
    const answer = await fetch(runUrl, { credentials: "same-origin" }).catch(() => ({}));
    if (answer.status === 404) return "gone";
    return answer.ok ? (await answer.json()).state : undefined;
  };
  const isOver = (found) => ["success", "failed", "gone"].includes(found);
  // Names the runs that somebody started before and that move this traffic, too.
  const others = async (mine) => {
    const query = "state=running&state=queued&order_by=-run_after&limit=20";
    const answer = await fetch(`${dag}/dagRuns?${query}`, { credentials: "same-origin" }).catch(() => ({}));
    const { dag_runs: runs = [] } = answer.ok ? await answer.json() : {};
    const ahead = runs.find((run) => run.dag_run_id !== mine && ["yes", "rollback"].includes(run.conf?.rollout));
    const by = ahead?.triggering_user_name ? ` by ${ahead.triggering_user_name}` : "";
    return ahead ? ` The run ${ahead.dag_run_id}${by} moves traffic, too: of the two, one waits for the other.` : "";
  };
  const { step } = section.dataset;
  const steer = (act, said) => async (given) => {
    const wish = { run: `${actions.run.dag}/${actions.run.run}`, step: Number(step), act, reason: given.reason };
    if (given.weight) wish.weight = Number(given.weight);
    await call("POST", section.dataset.rolloutUrl, wish);
    return said(given);
  };
  const soon = "within seconds; load the page again to see it";
  const acts = {
    release: async (given) => {
      if (actions.busy === "refuse")
        throw new Error("A rollout runs here, and one at a time is allowed: wait until it is over, or end it first.");
      const run = await trigger({ ...actions.release, version: given.version, reason: given.reason });
      const waits = { wait: " It waits until the rollout that runs is over.", replace: " It ends the rollout that runs." };
      return `The run ${run.dag_run_id} rolls version ${given.version} out.${waits[actions.busy] ?? await others(run.dag_run_id)}`;
    },
    share: async ({ version, weight, reason }) => {
      if (Number(version) === actions.serves)
        throw new Error(`Version ${version} has the traffic: name the version that gets a share of it.`);
      const run = await trigger({ ...actions.release, version, hold_at: Number(weight), reason });
      return `The run ${run.dag_run_id} gives version ${version} ${weight} % and holds it there.${await others(run.dag_run_id)}`;
    },
    rollback: async (given) => {
      const run = await trigger({ ...actions.rollback, reason: given.reason });
      return `The run ${run.dag_run_id} returns the traffic to version ${actions.rollback.version}.${await others(run.dag_run_id)}`;
    },
    hold: steer("hold", () => `It is held ${soon}.`),
    continue: steer("continue", () => `It continues ${soon}.`),
    promote: steer("promote", () => `It gets all traffic ${soon}. Where the model's rollout needs an approval, its task asks for it.`),
    weight: steer("weight", (given) => `It gets ${given.weight} % ${soon}, and is held there.`),
    end: async (given) => {
      const { run } = actions.run;
      const found = await state();
      if (isOver(found))
        throw new Error(`The run ${run} is over (${found}): somebody else was faster, or it ended by itself. Load the ` +
          "page again; a rollout that still shows as running then can be closed there.");
      await call("PATCH", runUrl, { state: "failed", note: given.reason });
      return `The run ${run} is ended; its traffic returns within seconds.`;
    },
    close: async (given) => {
      const found = await state();
      if (!isOver(found)) throw new Error("Its run is not over: it can be ended, and closes itself then.");
      const run = await trigger({ ...actions.close, reason: given.reason });
      return `The run ${run.dag_run_id} closes it and gives the traffic to version ${actions.close.version}.`;
    },
  };
  const offerClosing = (found) => {
    const form = section.querySelector("form[data-action=close]");
    form.querySelector("label span").textContent = found === "gone" ? "not there any more" : `over (${found})`;
    form.hidden = false;
    section.querySelectorAll("form[data-of-run]").forEach((each) => { each.hidden = true; });
  };
  acting(section, acts);
  // A rollout whose run died stays as it is: only Airflow knows that it did.
  if (runUrl) state().then((found) => { if (isOver(found)) offerClosing(found); });
})();
