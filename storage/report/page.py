"""The report's two interactive pages: one file each, a few kB of script, nothing loaded from anywhere.

MLflow shows them in a sandboxed frame, where scripts run but links don't.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from ...core.pareto import feasible
from .facts import JobFacts

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$TITLE</title>
<style>
body { font: 14px/1.45 Helvetica, Arial, sans-serif; color: #1b2733; background: #fff; margin: 16px 20px; }
h1 { font-size: 17px; margin: 0 0 10px; }
label { color: #5d6b7a; margin-right: 14px; }
select { font: inherit; margin-left: 4px; }
#about { white-space: pre-wrap; font: 12.5px/1.45 ui-monospace, monospace; border-left: 3px solid #2f6fb5;
  background: #f6f8fa; padding: 10px 12px; margin-top: 12px; min-height: 40px; overflow-wrap: anywhere; }
[data-key] { cursor: pointer; }
[data-key]:focus { outline: none; }
[data-key]:hover rect, [data-key]:focus rect, .on rect { stroke-width: 2.6; }
circle { cursor: pointer; } circle:hover, circle.on { stroke: #1b2733; stroke-width: 2; }
.scroll { overflow-x: auto; }
.scroll svg { width: 100%; min-width: 860px; max-width: max-content; height: auto; }
</style></head><body>
<h1>$TITLE</h1>
"""

_LINEAGE = """<div class="scroll">$SVG</div>
<div id="about">Click a box to see all about it.</div>
<script type="application/json" id="data">$DATA</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const about = document.getElementById("about");
for (const box of document.querySelectorAll("[data-key]")) {
  const show = () => {
    document.querySelectorAll(".on").forEach(other => other.classList.remove("on"));
    box.classList.add("on");
    about.textContent = Object.entries(data[box.dataset.key])
      .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length))
      .map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value, null, 2)])
      .map(([name, value]) => name + ": " + value)
      .join("\\n");
  };
  box.addEventListener("click", show);
  box.addEventListener("keydown", event => { if (event.key === "Enter") show(); });
}
</script></body></html>
"""

_PARETO = """<div><label>x <select id="x"></select></label><label>y <select id="y"></select></label>
<label>stage <select id="stage"></select></label></div>
<svg id="plot" viewBox="0 0 820 480" width="100%" style="max-width: 980px" font-size="12"></svg>
<div id="about">Point at a trial to see its candidate; click to keep it.</div>
<script type="application/json" id="data">$DATA</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const W = 820, H = 480, L = 76, B = 46, T = 12, R = 16;
const $ = id => document.getElementById(id), plot = $("plot"), about = $("about");
const make = (name, set, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in set) made.setAttribute(key, set[key]);
  if (text !== undefined) made.textContent = text;
  plot.appendChild(made);
  return made;
};
const fill = (id, names, chosen) => {
  for (const name of names) $(id).add(new Option(name, name, false, name === chosen));
  $(id).addEventListener("change", draw);
};
const whole = value => Number.isInteger(value) && Math.abs(value) < 1e6;
const short = value => whole(value) ? String(value) : String(+value.toPrecision(4));
const label = value => short(+value.toPrecision(12));
const ticks = (low, high) => {
  const span = high - low || 1, rough = span / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough), found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
};
const describe = trial => "trial " + trial.number + " of " + trial.stage + " (" + trial.state
  + (trial.front ? ", Pareto front" : "") + ")\\n"
  + Object.entries(trial.values).map(([name, value]) => name + ": " + value).join("\\n")
  + (trial.test ? "\\ntest: " + JSON.stringify(trial.test) : "")
  + "\\n\\n" + JSON.stringify(trial.candidate, null, 1).slice(2, -2);
let kept = null;
function draw() {
  const x = $("x").value, y = $("y").value, stage = $("stage").value;
  const shown = data.trials.filter(t => stage === "all" || t.stage === stage);
  plot.textContent = "";
  if (!shown.length) return;
  const range = name => {
    const all = shown.map(t => t.values[name]), low = Math.min(...all), high = Math.max(...all);
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  };
  const [x0, x1] = range(x), [y0, y1] = range(y);
  const px = v => L + (v - x0) / (x1 - x0) * (W - L - R);
  const py = v => H - B - (v - y0) / (y1 - y0) * (H - B - T);
  for (const at of ticks(x0, x1)) {
    make("line", {x1: px(at), x2: px(at), y1: T, y2: H - B, stroke: "#e6eaee"});
    make("text", {x: px(at), y: H - B + 16, "text-anchor": "middle", fill: "#5d6b7a"}, label(at));
  }
  for (const at of ticks(y0, y1)) {
    make("line", {x1: L, x2: W - R, y1: py(at), y2: py(at), stroke: "#e6eaee"});
    make("text", {x: L - 8, y: py(at) + 4, "text-anchor": "end", fill: "#5d6b7a"}, label(at));
  }
  const axis = name => name + " (" + (data.goals[name] === "maximize" ? "higher" : "lower") + " is better)";
  make("text", {x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle"}, axis(x));
  make("text", {x: 14, y: (T + H - B) / 2, "text-anchor": "middle",
    transform: "rotate(-90 14 " + (T + H - B) / 2 + ")"}, axis(y));
  for (const trial of [...shown].sort((a, b) => a.front - b.front)) {
    const colour = trial.front ? "#c2410c" : trial.feasible ? "#2f6fb5" : "#9aa5b1";
    const dot = make("circle", {cx: px(trial.values[x]), cy: py(trial.values[y]), r: trial.front ? 6 : 4,
      fill: trial.state === "recalled" ? "#fff" : colour, stroke: colour, "fill-opacity": 0.85});
    if (trial === kept) dot.classList.add("on");
    dot.addEventListener("mouseenter", () => { about.textContent = describe(trial); });
    dot.addEventListener("mouseleave", () => { if (kept) about.textContent = describe(kept); });
    dot.addEventListener("click", () => { kept = trial; draw(); about.textContent = describe(trial); });
  }
}
const names = Object.keys(data.goals), stages = [...new Set(data.trials.map(t => t.stage))];
fill("x", names, data.axes[0]);
fill("y", names, data.axes[1] || data.axes[0]);
fill("stage", stages.length > 1 ? ["all", ...stages] : stages, "all");
draw();
</script></body></html>
"""


def lineage_page(job: str, svg: str, details: Mapping[str, Mapping[str, object]]) -> str:
    """The lineage graph with what its boxes tell when they are clicked."""
    return _page(f"Lineage of {job}", _LINEAGE, DATA=_embedded(details), SVG=svg)


def pareto_html(facts: JobFacts) -> str | None:
    """The scored trials over any two goals, with their candidates; None when there are none."""
    chosen = {trial.id for trial in facts.chosen}
    trials = [
        {
            "number": trial.number,
            "stage": stage.name,
            "state": trial.state,
            "front": trial.id in chosen,
            "feasible": feasible(trial.values, stage.goals),
            "values": {goal.name: trial.values[goal.name] for goal in stage.goals},
            "test": trial.test,
            "candidate": trial.candidate,
        }
        for stage in facts.stages
        for trial in stage.scored
    ]
    if not trials:
        return None
    goals = {goal.name: goal.direction for goal in facts.optimised}
    axes = [goal.name for goal in facts.axes]
    return _page(
        f"Trials of {facts.row.name}",
        _PARETO,
        DATA=_embedded({"goals": goals, "axes": axes, "trials": trials}),
    )


def _page(title: str, body: str, **parts: str) -> str:
    page = _HEAD.replace("$TITLE", escape(title)) + body
    for name, value in parts.items():
        page = page.replace(f"${name}", value, 1)
    return page


def _embedded(data: object) -> str:
    """JSON that may stand in a script element, whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
