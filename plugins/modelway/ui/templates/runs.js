"use strict";
// Lists the newest runs of a model's DAGs and when the next one is due, by Airflow's own API; read once, not again and again.
(() => {
  const { seconds } = window.modelwayProgress;
  const tones = { success: "tag good", failed: "tag warn" };
  const cell = (text, className) => {
    const made = document.createElement("td");
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const link = (text, href) => {
    const made = document.createElement("td");
    const anchor = document.createElement("a");
    anchor.textContent = text;
    anchor.href = href;
    made.append(anchor);
    return made;
  };
  // A time that times.js writes in the zone of the user.
  const moment = (text) => {
    const made = document.createElement("time");
    made.dateTime = text;
    made.textContent = `${text.slice(0, 19).replace("T", " ")} UTC`;
    return made;
  };
  const timeCell = (text) => {
    const made = cell(text ? "" : "–", "nowrap");
    if (text) made.append(moment(text));
    return made;
  };
  const rowOf = (section, run) => {
    const { here, dag } = section.dataset;
    const line = document.createElement("tr");
    const state = cell("");
    const tag = document.createElement("span");
    tag.textContent = run.state;
    tag.className = tones[run.state] ?? "tag";
    state.append(tag);
    const [from, to] = [Date.parse(run.start_date ?? ""), run.end_date ? Date.parse(run.end_date) : Date.now()];
    const length = Number.isNaN(from) ? "–" : seconds(from, to);
    const place = `${here}/of-run?dag=${encodeURIComponent(dag)}&run=${encodeURIComponent(run.dag_run_id)}`;
    line.append(link(run.dag_run_id, place), state, timeCell(run.start_date), cell(length, "number"),
      cell(run.triggering_user_name ?? run.run_type ?? "–"));
    return line;
  };
  const fill = async (section) => {
    const { airflowUrl: airflow, dag } = section.dataset;
    const status = section.querySelector("[role=status]");
    const get = async (path) => {
      const answer = await fetch(`${airflow}/api/v2/dags/${encodeURIComponent(dag)}${path}`, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.json();
    };
    section.hidden = false;
    try {
      const [about, { dag_runs: runs }] = await Promise.all([get(""), get("/dagRuns?order_by=-run_after&limit=10")]);
      status.textContent = about.timetable_description || about.timetable_summary || "no schedule";
      if (about.next_dagrun_run_after) status.append(", next ", moment(about.next_dagrun_run_after));
      if (about.is_paused) status.append("; the DAG is paused, so that its runs wait");
      section.querySelector("tbody").replaceChildren(...runs.map((run) => rowOf(section, run)));
    } catch (error) {
      status.textContent = `Airflow does not show the runs of this DAG (${error.message}).`;
    }
  };
  document.querySelectorAll("section[data-runs]").forEach(fill);
})();
