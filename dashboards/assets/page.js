const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const IDENTITY = ["run_id", "experiment", "method", "architecture", "width", "seed"];
const NARROWEST = 560; // a chart shrinks to this many pixels; on a narrower screen it scrolls in its box

const form = one("#filters");
const data = await unpacked(one("#data").textContent);
const runs = new Map(data.runs.map(run => [run.run_id, run]));
const charts = [];
let picked = [];

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// ---- what is chosen: the ticked values by column, and the picked runs; both stand in the address

function chosen() {
  const values = {};
  for (const [column, value] of new FormData(form)) (values[column] ??= new Set()).add(value);
  return Object.entries(values);
}

// A row without a filter's column passes where it is no summary of runs, as a threshold is none. A mean over runs that the
// filter tells apart is left out: it would stand alone, and be of others too.
const passes = (row, filters) =>
  filters.every(([column, values]) =>
    row[column] === undefined ? !("method" in row) || "run_id" in row : values.has(String(row[column] ?? "")));

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const box of form.elements) if (box.type === "checkbox") box.checked = said.getAll(box.name).includes(box.value);
  picked = said.getAll("run").filter(id => runs.has(id));
}

function writeAddress() {
  const said = new URLSearchParams(new FormData(form));
  for (const id of picked) said.append("run", id);
  try {
    history.replaceState(null, "", String(said) ? `#${said}` : location.pathname + location.search);
  } catch { /* a preview in a sandbox has no address of its own */ }
}

// ---- what follows from it: the board, and the rows that each chart draws

async function show() {
  const filters = chosen();
  const shown = new Set(data.runs.filter(run => passes(run, filters)).map(run => run.run_id));
  const active = picked.filter(id => shown.has(id));
  showBoard(shown, new Set(active));
  one("#shown").value = `${shown.size} of ${runs.size} runs shown` + (active.length ? `, ${active.length} picked` : "");
  one("#all").hidden = !filters.length;
  document.body.classList.toggle("filtered", filters.length > 0); // the descriptions are of all runs
  one("#none").hidden = !picked.length;
  await Promise.all(charts.map(chart => showChart(chart, filters, active)));
}

function showBoard(shown, active) {
  for (const row of all(".run")) {
    const id = row.dataset.run;
    row.hidden = !shown.has(id);
    row.classList.toggle("picked", active.has(id));
    one(".pick", row).setAttribute("aria-pressed", active.has(id));
  }
  for (const body of all(".board tbody")) {
    const rows = all(".run", body), left = rows.filter(row => !row.hidden).length;
    body.hidden = left === 0;
    body.classList.toggle("partial", left > 0 && left < rows.length);
  }
}

async function showChart(chart, filters, active) {
  const key = JSON.stringify(filters.map(([column, values]) => [column, ...values]));
  if (chart.key !== key) {
    chart.key = key;
    let left = 0; // marks of runs and cells
    for (const [name, rows] of chart.rows) {
      const kept = rows.filter(row => passes(runs.get(row.run_id) ?? row, filters));
      left += kept.filter(row => "method" in row || "run_id" in row).length;
      chart.view.data(name, kept.map(row => ({...row})));
    }
    const unheard = filters.map(([column]) => column).filter(column => !chart.hears(column));
    const note = one(".deaf", chart.figure), names = unheard.map(column => column === "state" ? "verdict" : column);
    note.hidden = !unheard.length;
    const by = `filter by ${names.join(", ")}`;
    note.textContent = left ? `The ${by} leaves out what is a mean over several runs; lines without a run, such as thresholds, are still of all.`
      : `Empty under the ${by}: each mark here stands for several runs.`;
  }
  await chart.view.signal("picked", active.length ? active : null).resize().runAsync();
}

function pick(ids, beside) {
  const same = ids.every(id => picked.includes(id));
  if (beside) picked = same ? picked.filter(id => !ids.includes(id)) : [...new Set([...picked, ...ids])];
  else picked = same && picked.length === ids.length ? [] : ids;
  writeAddress();
  return show();
}

// ---- the charts

async function draw(name, specification) {
  const figure = document.getElementById(name), picture = document.createElement("div");
  picture.ariaHidden = true; // the element around it tells what is to be seen
  one(".picture", figure).append(picture);
  const used = new Set();
  JSON.stringify(specification, (key, value) => (key === "data" && value?.name in data.datasets && used.add(value.name), value));
  const copies = [...used].map(name => [name, data.datasets[name].map(row => ({...row}))]); // Vega writes into its rows
  const datasets = Object.fromEntries(copies);
  const {view, vgSpec} = await vegaEmbed(picture, {...specification, datasets}, {actions: false, renderer: "svg"});
  const named = new Set(vgSpec.data.map(source => source.name));
  const rows = Object.keys(datasets).filter(name => named.has(name)).map(name => [name, data.datasets[name]]);
  const told = rows.map(([, found]) => found[0] ?? {}).filter(row => IDENTITY.some(column => column in row));
  const hears = column => told.length > 0 && told.every(row => "run_id" in row || column in row);
  for (const attribute of ["role", "aria-roledescription", "aria-label"]) picture.removeAttribute(attribute); // Vega's own
  const svg = one("svg", picture);
  svg.style.minWidth = `${Math.min(NARROWEST, svg.getAttribute("width"))}px`;
  view.addEventListener("click", (event, item) => {
    const id = item?.datum?.run_id;
    if (runs.has(id)) pick([id], event.ctrlKey || event.metaKey || event.shiftKey);
  });
  const box = one(".chart", figure);
  new ResizeObserver(() => one(".wide", figure).hidden = box.scrollWidth <= box.clientWidth).observe(box);
  view.logLevel(1); // a filter may empty a layer: Vega then warns of an axis without extent, at level 2
  charts.push({figure, view, rows, hears});
}

async function save(button) {
  const {figure, view} = charts.find(chart => chart.figure.contains(button));
  const link = document.createElement("a");
  link.href = await view.toImageURL(button.dataset.form, 3);
  link.download = `${figure.id}.${button.dataset.form}`;
  link.click();
}

// ---- the rows behind a chart, when they are asked for

function listRows(details) {
  const box = one(".table", details), answer = data.answers[details.dataset.answer];
  if (box.firstChild) return;
  const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  answer.columns.forEach((name, i) => head.append(cell("th", name, answer.numeric[i])));
  for (const row of answer.rows) body.insertRow().append(...row.map((value, i) => cell("td", value, answer.numeric[i])));
  box.append(table);
}

function cell(tag, text, isNumber) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (isNumber) made.className = "number";
  return made;
}

// ---- what a person does

form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("change", () => { writeAddress(); show(); });
one("#all").addEventListener("click", () => { form.reset(); writeAddress(); show(); });
one("#none").addEventListener("click", () => pick([]));
addEventListener("hashchange", () => { readAddress(); show(); });
addEventListener("keydown", event => { if (event.key === "Escape" && picked.length) pick([]); });
for (const details of all(".answer")) details.addEventListener("toggle", () => listRows(details));
for (const button of all(".save button")) button.addEventListener("click", () => save(button));
for (const link of all("a[href^='#']"))
  link.addEventListener("click", event => { // the address is kept for what is chosen
    event.preventDefault();
    const target = document.getElementById(link.hash.slice(1));
    target.scrollIntoView();
    target.focus({preventScroll: true});
  });

one(".board").addEventListener("click", event => {
  const fold = event.target.closest(".fold"), row = event.target.closest(".run");
  if (fold) fold.setAttribute("aria-expanded", !fold.closest("tbody").classList.toggle("folded"));
  if (row && !event.target.closest("a") && !String(getSelection()))
    pick([row.dataset.run], event.ctrlKey || event.metaKey || event.shiftKey);
});
one(".board").addEventListener("keydown", event => { // up and down from run to run
  const step = {ArrowUp: -1, ArrowDown: 1}[event.key], at = event.target.closest(".pick, .fold");
  if (!step || !at) return;
  event.preventDefault();
  const stops = all(".pick, .fold", event.currentTarget).filter(stop => stop.checkVisibility());
  stops[stops.indexOf(at) + step]?.focus();
});

readAddress();
await show();
for (const [name, specification] of Object.entries(data.charts))
  await draw(name, specification).catch(error => {
    one(".chart", document.getElementById(name)).textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  });
await show();
document.documentElement.dataset.drawn = charts.length;
