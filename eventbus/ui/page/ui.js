// The page of `eventbus ui`. All texts come from a bus and may hold anything: they are only ever set as textContent.

import { Graph, graphOf, UNNUMBERED } from "/graph.js";

const MOST_EVENTS = 1000, MOST_ROWS = 200, SILENCE_MS = 6000, RETRY_MS = 3000;
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function make(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const rateText = (rate) => (rate === 0 ? "0" : rate < 10 ? rate.toFixed(1) : rate < 10000 ? whole.format(rate) : compact.format(rate));
const countText = (count) => (count < 100000 ? whole.format(count) : compact.format(count));
const bytesText = (bytes) => (bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const agoText = (seconds) => (seconds === null ? "–" : seconds < 1.5 ? "now" : seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);

const tripText = (seconds) => (seconds === null ? "–" : `${(seconds * 1000).toFixed(1)} ms`);

function clockText(time, fine) {
  const at = new Date(time * 1000), two = (number) => String(number).padStart(2, "0");
  const text = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return fine ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

// ---- sparklines

function spark(svg, rates, intervals) {
  const most = Math.max(...rates, 1e-9), right = intervals - 1, start = intervals - rates.length;
  const points = rates.map((rate, index) => `${start + index},${(20 - (rate / most) * 18).toFixed(1)}`);
  if (!svg.firstChild) {
    svg.setAttribute("preserveAspectRatio", "none");
    for (const kind of ["path", "polyline"]) svg.append(document.createElementNS("http://www.w3.org/2000/svg", kind));
  }
  svg.setAttribute("viewBox", `0 0 ${right} 20`);
  svg.firstChild.setAttribute("d", points.length ? `M${start},20L${points.join("L")}L${right},20Z` : "");
  svg.lastChild.setAttribute("points", points.join(" "));
}

const trends = { intervals: 30, total: [], topics: new Map() };

function follow(rates, rate) {
  rates.push(rate);
  if (rates.length > trends.intervals) rates.shift();
}

// ---- topics

const rows = new Map();
let sorting = { by: "name", down: false };

function topicRow(name) {
  const row = make("tr"), first = make("td"), button = make("button", "topic", name), badge = make("span", "badge");
  button.title = name;
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => onlyTopic($("f-topic").value === name ? "" : name));
  first.append(button, " ", badge);
  const trend = make("td", "trend"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  trend.append(svg);
  const cells = { rate: make("td", "n"), bytes: make("td", "n roomy"), events: make("td", "n roomy"), seen: make("td", "n") };
  row.append(first, trend, ...Object.values(cells));
  return { row, button, badge, svg, cells };
}

function showTopics(figures) {
  const body = $("topics"), topics = [...figures.topics], { by, down } = sorting;
  const key = (topic) => (by === "name" ? topic.name : topic[by] ?? Infinity);
  topics.sort((one, two) => (key(one) < key(two) ? -1 : key(one) > key(two) ? 1 : one.name < two.name ? -1 : 1));
  if (down) topics.reverse();
  const names = new Set(topics.map((topic) => topic.name));
  for (const [name, shown] of rows) {
    if (!names.has(name)) {
      shown.row.remove();
      rows.delete(name);
    }
  }
  topics.forEach((topic, place) => {
    if (!rows.has(topic.name)) rows.set(topic.name, topicRow(topic.name));
    const shown = rows.get(topic.name);
    say(shown.cells.rate, rateText(topic.rate));
    say(shown.cells.bytes, bytesText(topic.bytes));
    say(shown.cells.events, countText(topic.events));
    say(shown.cells.seen, agoText(topic.seen));
    say(shown.badge, topic.lost > 0 ? `${countText(topic.lost)} lost` : "");
    shown.badge.hidden = !(topic.lost > 0);
    shown.row.classList.toggle("quiet", topic.rate === 0);
    spark(shown.svg, trends.topics.get(topic.name) || [], trends.intervals);
    if (body.children[place] !== shown.row) body.insertBefore(shown.row, body.children[place] || null);
  });
  const more = figures.more_topics ? `There are more topics: ${MOST_ROWS} are shown, the fastest.` : "";
  say($("topics-note"), topics.length ? more : "Nothing has passed yet.");
}

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const by = button.dataset.sort, numeric = by !== "name" && by !== "seen";
    sorting = { by, down: sorting.by === by ? !sorting.down : numeric };
    for (const head of document.querySelectorAll("[aria-sort]")) head.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    if (latest) showTopics(latest);
  });
}

// ---- what happens

const MARKS = { info: ["✓", "information"], warning: ["!", "warning"], error: ["✕", "error"] };
const noticeRows = new Map();

function showNotice(notice) {
  let shown = noticeRows.get(notice.number);
  if (!shown) {
    const item = make("li"), [sign, word] = MARKS[notice.level] || MARKS.warning;
    const mark = make("span", "mark"), what = make("span", "what");
    mark.append(Object.assign(make("span", "", sign), { ariaHidden: "true" }), make("span", "unseen", `${word}: `));
    Object.assign(item.dataset, { level: notice.level, number: notice.number });
    shown = { item, times: make("span", "times"), when: make("time", "when") };
    what.append(shown.times, document.createTextNode(notice.text));
    item.append(mark, what, shown.when);
    noticeRows.set(notice.number, shown);
  }
  say(shown.times, notice.count > 1 ? `${countText(notice.count)}× ` : "");
  say(shown.when, clockText(notice.last));
  shown.when.title = notice.count > 1 ? `first at ${clockText(notice.first)}` : "";
  if ($("notices").firstChild !== shown.item) $("notices").prepend(shown.item);
  while ($("notices").children.length > MOST_ROWS) {
    noticeRows.delete(Number($("notices").lastChild.dataset.number));
    $("notices").lastChild.remove();
  }
  $("notices-note").textContent = "";
}

// ---- the graph

const graph = new Graph($("graph"), (topic) => onlyTopic(topic), rateText);

function showList(edges) {
  const lines = { out: [], in: [] };
  for (const edge of edges) lines[edge.side].push(edge.side === "out" ? `${edge.from} → ${edge.to}: ${rateText(edge.rate)} events/s` : `${edge.from} → ${edge.to}`);
  const list = $("graph-list"), texts = [...lines.out.sort(), ...lines.in.sort()];
  while (list.children.length > texts.length) list.lastChild.remove();
  while (list.children.length < texts.length) list.append(make("li"));
  texts.forEach((text, place) => say(list.children[place], text)); // in place, because somebody may be reading it
}

function showGraph(figures) {
  const found = graphOf(figures);
  graph.draw(found);
  const told = found.senders.filter((node) => node.name !== UNNUMBERED).length;
  say($("n-publishers"), told < found.senders.length ? `≥ ${told + 1}` : countText(told)); // the others cannot be told apart
  if ($("graph-details").open) showList(found.edges);
  const notes = [];
  if (!found.topics.length) notes.push("Nobody has sent anything yet.");
  if (found.senders.some((node) => node.name === UNNUMBERED)) notes.push("Publishers are told apart if they are listed by eventbus ps, or set EVENTBUS_NUMBERED=true.");
  if (found.topics.length && !found.receivers.length) notes.push("Receivers are shown if they say who they are: services of containers do, and clients that call be_listed().");
  say($("graph-note"), notes.join(" "));
}

$("graph-details").addEventListener("toggle", () => latest && showGraph(latest));

// ---- health

function article(title, word, level, facts, detail) {
  const made = make("article"), head = make("h3"), pill = make("span", "pill", word), list = make("dl");
  pill.dataset.level = level;
  head.append(make("span", "", title), pill);
  for (const [name, value] of Object.entries(facts)) {
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", String(value)));
    list.append(pair);
  }
  made.append(head);
  if (detail) made.append(make("p", "muted note", detail));
  made.append(list);
  return made;
}

function clientTable(clients) {
  const box = make("div", "scroll clients"), table = make("table"), names = Object.keys(clients[0].facts);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Clients");
  const head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ["client", ...names]) {
    const cell = make("th", name === "client" ? "" : name === "process" ? "roomy" : "n", name);
    cell.scope = "col";
    head.append(cell);
  }
  for (const client of clients) {
    const row = body.insertRow(), first = make("td"), pill = make("span", "dot", client.state === "ready" ? "" : ` ${client.state}`);
    pill.dataset.level = LEVELS[client.state] || "wait";
    first.title = client.name;
    first.append(pill, client.name);
    row.append(first);
    for (const name of names) {
      const wrong = (name === "errors" || name === "dropped") && client.facts[name] !== "0";
      row.append(make("td", (name === "process" ? "roomy" : "n") + (wrong ? " bad" : ""), client.facts[name]));
    }
  }
  box.append(table);
  return box;
}

const LEVELS = { ready: "good", connecting: "wait", degraded: "warn", closed: "bad" };

function showHealth(figures) {
  const own = { "round trip": tripText(figures.round_trip), "events so far": countText(figures.total.events) };
  if (figures.watched.length) own["only topics"] = figures.watched.join(", ");
  const parts = [article("This page's connection", figures.state, LEVELS[figures.state] || "wait", own)];
  for (const probe of figures.probes) {
    const host = probe.url.replace(/^https?:\/\//, "");
    const title = probe.kind === "proxy" ? `Proxy at ${host}` : probe.kind === "service" ? `Service at ${host}` : probe.kind === "nats" ? `NATS at ${host}` : host;
    const counts = Object.fromEntries(Object.entries(probe.counts).map(([name, count]) => [name, countText(count)]));
    const [word, level] = probe.ready === null ? ["no answer", "bad"] : probe.ready ? ["ready", "good"] : ["not ready", "warn"];
    parts.push(article(title, word, level, counts, probe.ready ? "" : probe.detail));
  }
  const listed = figures.clients.filter((client) => Object.keys(client.facts).length);
  if (listed.length) parts.push(clientTable(listed));
  if (!figures.probes.length) parts.push(make("p", "muted note", "The proxy and services are shown, too, if they serve probes: eventbus ui --probe http://host:port"));
  $("health").replaceChildren(...parts);
}

// ---- events

let events = [], lastRun = "", lastNumber = 0, paused = false, waiting = 0;
const known = { topic: new Set(), type: new Set() };

function learn(event) {
  for (const name of ["topic", "type"]) {
    if (!event[name] || known[name].has(event[name]) || known[name].size >= MOST_EVENTS) continue;
    known[name].add(event[name]);
    const select = $(`f-${name}`), option = make("option", "", event[name]);
    option.value = event[name];
    select.insertBefore(option, [...select.options].slice(1).find((other) => other.value > event[name]) || null);
  }
}

const textOf = (event) => event.text ?? (event.text = `${event.topic} ${event.type} ${event.fields.map(([name, value]) => `${name}=${value}`).join(" ")}`.toLowerCase());

function matches(event) {
  const topic = $("f-topic").value, type = $("f-type").value, text = $("f-text").value.trim().toLowerCase();
  return (!topic || event.topic === topic) && (!type || event.type === type) && (!text || textOf(event).includes(text));
}

function eventRow(event) {
  const item = make("li"), details = make("details"), summary = make("summary"), said = make("span", "said");
  for (const [name, value] of event.fields.slice(0, 12)) said.append(make("span", "key", `${name}=`), `${value}  `);
  if (event.note) said.append(make("span", "key", event.note));
  summary.append(make("span", "time", clockText(event.time, true)), make("span", "of-topic", event.topic), make("span", "type", event.type), said);
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const list = make("dl");
    const facts = [["topic", event.topic], ["type", event.type], ...event.fields, ["(bytes as it came)", whole.format(event.size)]];
    if (event.note) facts.push(["(note)", event.note]);
    for (const [name, value] of facts) list.append(make("dt", "", name), make("dd", "", value));
    details.append(list);
  });
  item.append(details);
  return item;
}

function showEvents(added) {
  const list = $("list"), found = added.filter(matches);
  if (found.length) list.prepend(...found.slice(-MOST_ROWS).reverse().map(eventRow));
  while (list.children.length > MOST_ROWS) list.lastChild.remove();
  noteEvents();
}

function noteEvents() {
  const rate = latest ? latest.total.rate : 0, parts = [];
  if (!events.length) parts.push("No event has passed yet.");
  if (paused) parts.push(`Paused; ${countText(waiting)} more wait.`);
  else if (rate > 100) parts.push("Some of each topic and type are shown, because more pass than can be read.");
  if (events.length && !$("list").children.length) parts.push("None of those that are kept match.");
  say($("events-note"), parts.join(" "));
}

function refilter() {
  $("list").replaceChildren();
  const kept = paused ? events.slice(0, events.length - waiting) : events;
  showEvents(kept);
  for (const [name, shown] of rows) shown.button.setAttribute("aria-pressed", String($("f-topic").value === name));
  const count = $("list").children.length;
  say($("events-said"), count === 1 ? "1 event matches" : `${count} events match`);
}

function onlyTopic(topic) {
  learn({ topic });
  $("f-topic").value = topic;
  refilter();
}

function addEvents(added) {
  const fresh = added.filter((event) => event.number > lastNumber);
  if (!fresh.length) return;
  lastNumber = fresh[fresh.length - 1].number;
  fresh.forEach(learn);
  events.push(...fresh);
  if (paused) waiting += fresh.length;
  // What is on the screen while it is paused stays filterable, as far as there is room.
  const excess = events.length - (paused ? 2 * MOST_EVENTS : MOST_EVENTS);
  if (excess > 0) {
    events.splice(0, excess);
    waiting = Math.min(waiting, events.length);
  }
  if (paused) noteEvents();
  else showEvents(fresh);
}

for (const name of ["f-topic", "f-type"]) $(name).addEventListener("change", refilter);
$("f-text").addEventListener("input", refilter);
$("filter").addEventListener("reset", () => setTimeout(refilter));
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("pause").addEventListener("click", () => {
  paused = !paused;
  waiting = 0;
  $("pause").setAttribute("aria-pressed", String(paused));
  say($("pause"), paused ? "Go on" : "Pause");
  if (!paused) refilter();
  noteEvents();
});

// ---- all together

let latest = null, heard = 0, source = null;

function showState(word, level) {
  say($("state"), word);
  $("state").dataset.level = level;
  document.title = level === "good" ? "eventbus" : `${word} – eventbus`;
}

function showFigures(figures) {
  latest = figures;
  showState(figures.state, LEVELS[figures.state] || "wait");
  say($("endpoints"), figures.endpoints);
  say($("n-rate"), rateText(figures.total.rate));
  say($("n-bytes"), bytesText(figures.total.bytes));
  say($("n-topics"), countText(figures.topics.length) + (figures.more_topics ? "+" : ""));
  say($("n-lost"), countText(figures.lost));
  $("n-lost").classList.toggle("bad", figures.lost > 0);
  say($("n-trip"), tripText(figures.round_trip));
  say($("n-malformed"), countText(figures.malformed));
  $("n-malformed").classList.toggle("bad", figures.malformed > 0);
  spark($("n-trend"), trends.total, trends.intervals);
  showTopics(figures);
  showGraph(figures);
  showHealth(figures);
}

const handlers = {
  everything({ run, figures, histories, events: all, notices }) {
    trends.intervals = histories.intervals;
    trends.total = histories.total;
    trends.topics = new Map(Object.entries(histories.topics));
    if (run !== lastRun) {
      lastRun = run; // the server was started again, and begins to count anew
      events = [];
      lastNumber = waiting = 0;
      noticeRows.clear();
      $("notices").replaceChildren();
      $("list").replaceChildren();
    }
    notices.forEach(showNotice);
    showFigures(figures);
    addEvents(all);
  },
  figures(figures) {
    follow(trends.total, figures.total.rate);
    for (const topic of figures.topics) {
      if (!trends.topics.has(topic.name)) trends.topics.set(topic.name, []);
      follow(trends.topics.get(topic.name), topic.rate);
    }
    if (trends.topics.size > 2 * MOST_ROWS) trends.topics = new Map(figures.topics.map((topic) => [topic.name, trends.topics.get(topic.name)]));
    showFigures(figures);
    noteEvents();
  },
  events: addEvents,
  notices(notices) {
    notices.forEach(showNotice);
  },
};

function connect() {
  source = new EventSource("/events");
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (message) => {
      heard = Date.now();
      handle(JSON.parse(message.data));
    });
  }
  source.addEventListener("error", async () => {
    showState("no answer from eventbus ui", "bad");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(connect, RETRY_MS);
    const answer = await fetch("/", { cache: "no-store" }).catch(() => null);
    if (answer && answer.status === 401) location.reload(); // it asks for the token
  });
}

setInterval(() => {
  if (heard && Date.now() - heard > SILENCE_MS) showState("no answer from eventbus ui", "bad");
}, 1000);
connect();
