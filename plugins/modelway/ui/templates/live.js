"use strict";
// Shows what the tasks of a run do now, by Airflow's own API and with the rights of the page's reader.
(() => {
  const { added, curve, inOrder, isBusy, nothing, pause, rowsOf, seconds } = window.modelwayProgress;
  //: requests for a log in one round, and rows that are shown
  const LOGS = 2, ROWS = 100;
  const section = document.getElementById("live");
  const { airflowUrl: airflow, dag, run } = section.dataset;
  const place = `/dags/${encodeURIComponent(dag)}/`;
  const api = `${airflow}/api/v2${place}dagRuns/${encodeURIComponent(run)}`;
  const status = section.querySelector("[role=status]");
  const body = section.querySelector("tbody");
  const curves = section.querySelector(".charts");
  const known = new Map();
  const make = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const get = async (url) => {
    const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
    if (!answer.ok) throw Object.assign(new Error(String(answer.status)), { status: answer.status });
    return answer.json();
  };
  const names = { deferred: "running", up_for_retry: "is tried again", upstream_failed: "not run", null: "waits" };
  const isTraining = (row) => row.task.startsWith("train.") && row.count === 1 && row.shown.try_number > 0;

  const readLogs = async (rows, isOver) => {
    const wanted = rows.filter((row) => isTraining(row) && (isBusy(row.shown.state) || isOver || !known.has(key(row))));
    for (const row of wanted.slice(-LOGS)) {
      const mine = known.get(key(row)) ?? { ...nothing(), token: null };
      const token = mine.token ? `?token=${encodeURIComponent(mine.token)}` : "";
      const task = encodeURIComponent(row.task);
      // A log that cannot be read yet is read in the next round.
      const found = await get(`${api}/taskInstances/${task}/logs/${row.shown.try_number}${token}`).catch(() => null);
      if (!found) continue;
      mine.token = found.continuation_token;
      known.set(key(row), added(mine, found.content ?? []));
    }
  };
  const key = (row) => `${row.task} ${row.shown.try_number}`;

  const stateCell = (row) => {
    const cell = make("td", "");
    const state = row.shown.state;
    const text = row.count > 1 && !(state === "failed") ? `${row.done} of ${row.count} done` : names[state] ?? state;
    const tone = { success: " good", failed: " warn", upstream_failed: " warn", up_for_retry: " warn" }[state] ?? "";
    cell.append(make("span", text, { class: `tag${tone}` }));
    return cell;
  };
  const progressCell = (row) => {
    const cell = make("td", "");
    const last = known.get(key(row))?.last;
    const [value, most] = row.count > 1 ? [row.done, row.count] : last?.total ? [last.step, last.total] : [null, null];
    if (most) {
      const bar = make("progress", "", { max: most, value, "aria-label": `progress of ${row.task}` });
      cell.append(bar, ` ${Math.floor((100 * value) / most)} %`);
    }
    if (last) {
      const parts = [`step ${last.step}`, last.loss === null ? "" : `loss ${last.loss}`, last.rate, last.left && `${last.left} left`];
      cell.append(make("span", ` ${parts.filter(Boolean).join(", ")}`, { class: "soft" }));
    }
    return cell;
  };
  const tableRow = (row) => {
    const line = make("tr", "");
    const { shown } = row;
    const mapped = shown.map_index >= 0 ? `/mapped/${shown.map_index}` : "";
    const href = `${airflow}${place}runs/${encodeURIComponent(run)}/tasks/${encodeURIComponent(row.task)}${mapped}`;
    const attempt = Math.max(...row.several.map((each) => each.try_number));
    const end = shown.end_date && !isBusy(shown.state) ? Date.parse(shown.end_date) : Date.now();
    const log = make("td", "");
    if (attempt) log.append(make("a", "log", { href: `${href}?try_number=${shown.try_number}`, "data-airflow": "" }));
    line.append(make("td", row.task), stateCell(row), make("td", attempt || "–", { class: "number" }),
      make("td", shown.start_date ? seconds(Date.parse(shown.start_date), end) : "–", { class: "number" }),
      progressCell(row), log);
    return line;
  };
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    return made;
  };
  const figureOf = (row) => {
    const mine = known.get(key(row));
    const points = mine && curve(mine.points, { width: 440, height: 140 });
    if (!points) return null;
    const figure = make("figure", "");
    const rising = inOrder(mine.points);
    const [low, high] = [Math.min(...mine.points.values()), Math.max(...mine.points.values())];
    const said = `loss of ${row.task}: ${rising.at(-1)[1]} at step ${rising.at(-1)[0]}, between ${low} and ${high}`;
    const picture = svg("svg", { class: "live", viewBox: "0 0 460 160", role: "img", "aria-label": said });
    const line = svg("polyline", { points, class: "c1", transform: "translate(10 10)" });
    picture.append(line);
    figure.append(make("figcaption", said), picture);
    if (mine.bad.size) figure.append(make("p", `${mine.bad.size} values are not finite.`, { class: "warn" }));
    return figure;
  };
  const show = (rows) => {
    body.replaceChildren(...rows.slice(0, ROWS).map(tableRow));
    curves.replaceChildren(...rows.map(figureOf).filter(Boolean));
    section.querySelector(".more").textContent = rows.length > ROWS ? `${rows.length - ROWS} more tasks.` : "";
  };

  const sentences = {
    401: "Your session has ended: sign in to Airflow again.", 403: "Airflow does not let you see the tasks of this run.",
    404: "Airflow has no such run any more.",
  };
  let failures = 0;
  const round = async () => {
    try {
      const found = await get(api);
      const { task_instances: instances } = await get(`${api}/taskInstances?limit=1000`);
      const rows = rowsOf(instances);
      const isOver = ["success", "failed"].includes(found.state);
      await readLogs(rows, isOver);
      show(rows);
      failures = 0;
      status.textContent = isOver ? `The run is over: ${found.state}.` : `The run is ${found.state}.`;
      status.className = found.state === "failed" ? "warn" : "soft";
      if (isOver) return;
    } catch (error) {
      if (sentences[error.status]) {
        status.textContent = sentences[error.status];
        status.className = "warn";
        return;
      }
      failures += 1;
      status.textContent = `Airflow does not answer: trying again in ${pause(failures)} seconds.`;
      status.className = "warn";
    }
    setTimeout(next, 1000 * pause(failures));
  };
  // A hidden page has no reader.
  const next = () => document.hidden ? document.addEventListener("visibilitychange", next, { once: true }) : round();
  section.hidden = false;
  next();
})();
