"use strict";
// What a task's log says of its progress, as numbers and as a curve: computes, and touches no page.
window.modelwayProgress = (() => {
  //: points that a curve has at most; of more, every second one is dropped
  const MOST = 400;
  const LINE = /progress: step (\d+)(?:\/(\d+) \((\d+) %\))?((?:, .*)?)$/;
  // "progress: step 120/1000 (12 %), loss 0.31, 845 examples/s, 3 m 10 s left" as numbers; null for any other line.
  const progressOf = (text) => {
    const found = LINE.exec(String(text).slice(0, 1000).trim());
    if (!found) return null;
    const loss = /, loss ([^,]+)/.exec(found[4]);
    const left = /, ([^,]+) left/.exec(found[4]);
    const rate = /, ([^,]+ examples\/s)/.exec(found[4]);
    return {
      step: Number(found[1]), total: found[2] ? Number(found[2]) : null, loss: loss ? Number(loss[1].trim()) : null,
      left: left ? left[1] : null, rate: rate ? rate[1] : null,
    };
  };
  // The points of a curve by their steps.
  const inOrder = (points) => [...points].sort(([one], [other]) => one - other);
  // Adds the progress that log messages report to what is known of a task: {points: Map of step to loss, last, bad}.
  const added = (known, messages) => {
    for (const each of messages) {
      const found = progressOf(typeof each === "string" ? each : each?.event);
      if (!found) continue;
      // An attempt that began again reports its steps once more: the newest value counts.
      known.last = found;
      if (found.loss === null) continue;
      if (Number.isFinite(found.loss)) known.points.set(found.step, found.loss);
      else known.bad.add(found.step);
    }
    while (known.points.size > MOST) {
      known.points = new Map(inOrder(known.points).filter((_, place) => place % 2 === 0));
    }
    return known;
  };
  const nothing = () => ({ points: new Map(), last: null, bad: new Set() });
  // The curve of a loss over the steps in a box of so many units; "" where there are not two points.
  const curve = (points, { width, height }) => {
    const rising = inOrder(points);
    if (rising.length < 2) return "";
    const values = rising.map(([, loss]) => loss);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [first, last] = [rising[0][0], rising.at(-1)[0]];
    const across = (step) => (width * (step - first)) / (last - first);
    const down = (loss) => high === low ? height / 2 : (height * (high - loss)) / (high - low);
    return rising.map(([step, loss]) => `${across(step).toFixed(1)},${down(loss).toFixed(1)}`).join(" ");
  };
  const seconds = (from, to) => {
    const all = Math.max(0, Math.round((to - from) / 1000));
    const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
    return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${all % 60} s` : `${all} s`;
  };
  const isBusy = (state) => ["running", "deferred"].includes(state);
  // Task instances as rows in the order of their start: of a task over many items one row that counts them.
  const rowsOf = (instances) => {
    const byTask = new Map();
    for (const each of instances) byTask.set(each.task_id, [...(byTask.get(each.task_id) ?? []), each]);
    const started = (several) => Math.min(...several.map((each) => Date.parse(each.start_date ?? "") || Infinity));
    const rows = [...byTask.values()].map((several) => {
      const shown = several.find(({ state }) => state === "failed") ?? several.find(({ state }) => isBusy(state)) ?? several[0];
      const done = several.filter((each) => ["success", "skipped"].includes(each.state)).length;
      return { task: shown.task_id, shown, several, done, count: several.length, started: started(several) };
    });
    // Of tasks that have not started the order is Airflow's own.
    return rows.sort((one, two) => one.started === two.started ? 0 : one.started - two.started);
  };
  // How long to wait until the next request: longer after each failure in a row, never shorter than the first wait.
  const pause = (failures) => Math.min(60, 5 * 2 ** failures);
  return { added, curve, inOrder, isBusy, nothing, pause, progressOf, rowsOf, seconds };
})();
