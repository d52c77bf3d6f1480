// What pages can't do without a script, or do better with one: themes, questions before acts, filters, sorting, charts.
"use strict";

const THEMES = ["", "light", "dark"];
const THEME_NAMES = { "": "as the system has it", light: "light", dark: "dark" };

document.addEventListener("click", (event) => {
  const target = event.target.closest("button, a, summary");
  if (!target) return;
  if (target.matches("[data-theme-switch]")) switchTheme(target);
  if (target.matches("[data-copy]")) copy(target);
  if (target.matches("th[aria-sort] button")) sort(target.closest("th"));
  if (target.matches("[data-line]")) goToLine(document.getElementById("toml"), Number(target.dataset.line));
});

function switchTheme(button) {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  document.cookie = `fingerpost_theme=${next}; path=/admin/console; max-age=31536000; samesite=strict`;
  button.title = `Theme: ${THEME_NAMES[next]}`;
  drawAll();
}

function goToLine(area, line) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  area.scrollTop = (area.scrollHeight / lines.length) * Math.max(line - 5, 0);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // without https there is no clipboard
    button.textContent = "Press Ctrl+C";
  }
}

// A form with data-confirm asks first.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-confirm]");
  if (!form || form.dataset.confirmed) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = form.dataset.confirm;
  dialog.onclick = (click) => {
    const value = click.target.value;
    if (!value) return;
    dialog.close();
    if (value === "yes") {
      form.dataset.confirmed = "1";
      form.requestSubmit();
    }
  };
  dialog.showModal();
});

// "/" goes to the search field; Escape closes the menu.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const field = document.querySelector("[data-search]");
    if (field) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  }
  if (event.key === "Escape") document.querySelectorAll("details.narrow[open]").forEach((one) => (one.open = false));
});

// <input data-search data-filter="ID of a table's body"> hides the rows that don't hold all of its words.
document.addEventListener("input", (event) => {
  const id = event.target.dataset.filter;
  if (id) filter(document.getElementById(id), event.target.value);
});

function filter(body, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  const none = document.getElementById(`${body.id}-none`);
  if (none) none.hidden = shown > 0;
}

function sort(header) {
  const table = header.closest("table");
  const column = [...header.parentElement.children].indexOf(header);
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const a = value(one), b = value(other);
    const order = a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows);
}

// Charts: data-chart holds {time, at: [x...], x, unit, kind: "line"|"bars"|"area", series: [{label, values, said}]}.
const charts = new Map();

function drawAll() {
  for (const place of charts.keys()) if (!place.isConnected) forget(place);
  document.querySelectorAll("[data-chart]").forEach(draw);
}

function forget(place) {
  charts.get(place)?.destroy();
  charts.delete(place);
}

function draw(place) {
  if (!window.uPlot) return;
  forget(place);
  const data = JSON.parse(place.dataset.chart);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const series = data.series.map((one, index) => line(one, index, data, colour));
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    padding: [8, 20, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    legend: { show: false },
    hooks: { setCursor: [(plot) => tell(place, data, plot.cursor.idx)] },
    scales: { x: { time: false, range: (_, low, high) => edges(low, high, data) }, y: { range: (_, low, high) => [Math.min(low, 0), high > 0 ? high * 1.08 : 1] } },
    axes: [{ ...axis, size: 30, grid: { show: false }, ...(data.time ? times(data) : { values: (_, ticks) => ticks.map((tick) => said(tick, data.x_unit)) }) }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => said(tick, data.unit)) }],
    series: [{}, ...series],
  };
  charts.set(place, new uPlot(options, [data.at, ...data.series.map((one) => one.values)], place));
}

function line(one, index, data, colour) {
  const stroke = colour(`--s${(index % 5) + 1}`);
  const look = { stroke, width: 2, spanGaps: false };
  if (data.kind === "bars") return { ...look, fill: `${stroke}55`, width: 1, paths: uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false } };
  if (data.kind === "dots" && !one.line) return { ...look, paths: () => null, points: { show: true, size: 6, fill: stroke, width: 0 } };
  if (data.kind === "area") return { ...look, fill: `${stroke}22`, points: { show: false } };
  return { ...look, dash: one.dash, points: { show: false } };
}

function said(value, unit) {
  if (unit === "usd") return value === 0 ? "$0" : Math.abs(value) < 0.01 ? `$${value.toPrecision(1)}` : `$${value.toLocaleString("en", { maximumFractionDigits: 2 })}`;
  if (unit === "ms") return value >= 1000 ? `${value / 1000} s` : `${value} ms`;
  if (unit === "share") return `${Math.round(value * 100)} %`;
  return value.toLocaleString("en", { notation: Math.abs(value) >= 100000 ? "compact" : "standard" });
}

// The legend tells the figures under the pointer.
function tell(place, data, at) {
  const [when, ...lines] = place.parentElement.querySelectorAll(".legend li");
  const inside = at != null;
  when.textContent = !inside ? "\u00a0" : data.time ? clock(data.at[at], true) : said(data.at[at], data.x_unit);
  lines.forEach((line, index) => (line.querySelector("b").textContent = inside ? data.series[index].said[at] : ""));
}

function edges(low, high, data) {
  const half = data.kind === "bars" && data.at.length > 1 ? (data.at[1] - data.at[0]) / 2 : 0;
  return [low - half, high + half || 1];
}

// All times are UTC, as in the tables; days where there are many.
const STEPS = [300, 600, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 432000, 604800];

function times(data) {
  const days = data.at[data.at.length - 1] - data.at[0] > 2 * 86400;
  return { incrs: days ? STEPS.filter((step) => step >= 86400) : STEPS, space: 64, values: (_, ticks) => ticks.map((at) => clock(at, false, days)) };
}

function clock(at, whole, days) {
  const options = whole ? { dateStyle: "medium", timeStyle: "short" } : days ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Date(at * 1000).toLocaleString("en-GB", { timeZone: "UTC", ...options });
}

// What a page asks by itself can wait while nobody sees it, or somebody is at work in the part that would change.
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.target;
  const used = part.contains(document.activeElement) || part.querySelector("details[open], th[aria-sort$='ending']");
  if (event.detail.requestConfig.headers["X-Unasked"] && (document.hidden || used)) event.preventDefault();
});

// What is wider than its place can be moved by keys too.
function reach() {
  for (const place of document.querySelectorAll(".scroll")) {
    const wide = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight + 1;
    if (wide) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
}

function arrange() {
  drawAll();
  reach();
}

let resizing;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(arrange, 120);
});
document.addEventListener("toggle", reach, true);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.addEventListener("htmx:afterSettle", arrange);
document.addEventListener("DOMContentLoaded", arrange);
