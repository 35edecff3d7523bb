// Draws who sends on which topic, and who receives it: three columns, joined by lines. Pure layout, then SVG.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 34, BOX = 26, HEAD = 24, MOST = 40;
export const UNNUMBERED = "without numbers";

/** The nodes and edges of the figures: who sends, the topics, who receives. */
export function graphOf(figures) {
  const senders = new Map(), topics = new Map(), receivers = new Map(), edges = [];
  const put = (column, name) => column.get(name) || (column.size < MOST && column.set(name, { name, rate: 0 }).get(name));
  const join = (from, to, rate, side) => edges.push({ from, to, rate, side });
  for (const topic of figures.topics) {
    const node = put(topics, topic.name);
    if (node) node.rate = topic.rate;
  }
  // Who sends without numbers is somebody with a name, if one says that it emits there.
  const claimed = new Set(figures.clients.filter((client) => !client.publisher).flatMap((client) => Object.keys(client.emits)));
  for (const pair of figures.pairs) {
    if (!pair.publisher && claimed.has(pair.topic)) continue;
    const name = pair.by || (pair.publisher ? pair.publisher.slice(0, 8) : UNNUMBERED);
    const sender = topics.has(pair.topic) && put(senders, name);
    if (!sender) continue;
    sender.rate += pair.rate;
    sender.full = pair.by ? `${pair.by}, publisher ${pair.publisher}` : pair.publisher || "publishers without numbers";
    join(name, pair.topic, pair.rate, "out");
  }
  for (const client of figures.clients) {
    for (const [topic, rate] of Object.entries(client.emits)) {
      const sender = topics.has(topic) && put(senders, client.name);
      if (!sender || edges.some((edge) => edge.side === "out" && edge.from === client.name && edge.to === topic)) continue;
      sender.rate += rate || 0;
      join(client.name, topic, rate === null ? topics.get(topic).rate : rate, "out");
    }
    const wanted = new Set(client.topics.includes("") ? [...topics.keys(), ...client.topics] : client.topics);
    wanted.delete("");
    for (const topic of wanted) {
      if (put(topics, topic) && put(receivers, client.name)) join(topic, client.name, topics.get(topic).rate, "in");
    }
  }
  return { senders: [...senders.values()], topics: [...topics.values()], receivers: [...receivers.values()], edges };
}

/** Sort the nodes of a column by the mean place of those that they are joined with, so that few lines cross. */
function settle(graph) {
  graph.senders.sort((one, other) => (one.name < other.name ? -1 : 1));
  const by = (nodes, before, key, other) => {
    const place = new Map(before.map((node, index) => [node.name, index]));
    for (const node of nodes) {
      const places = graph.edges.filter((edge) => edge[key] === node.name && place.has(edge[other])).map((edge) => place.get(edge[other]));
      node.mean = places.length ? places.reduce((sum, each) => sum + each, 0) / places.length : before.length;
    }
    nodes.sort((one, two) => one.mean - two.mean || (one.name < two.name ? -1 : 1));
  };
  by(graph.topics, graph.senders, "to", "from");
  by(graph.receivers, graph.topics, "to", "from");
}

function make(kind, attributes, parent) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (parent) parent.append(made);
  return made;
}

function fitting(text, width) {
  const most = Math.max(4, Math.floor((width - 14) / 7.7));
  return text.length <= most ? text : text.slice(0, most - 1) + "…";
}

/** The picture, which keeps its nodes as long as nobody comes or leaves, and the focus as long as its node is there. */
export class Graph {
  constructor(place, onTopic, rateText) {
    this.place = place;
    this.onTopic = onTopic;
    this.rateText = rateText;
    this.shape = "";
    this.nodes = new Map();
    new ResizeObserver(() => this.last && this.draw(this.last)).observe(place);
  }

  draw(graph) {
    this.last = graph;
    const width = Math.round(this.place.clientWidth);
    if (!width || !graph.topics.length) return this.place.replaceChildren();
    settle(graph);
    const columns = [graph.senders, graph.topics, graph.receivers].filter((nodes, index) => index < 2 || nodes.length);
    const shape = JSON.stringify([width, columns.map((nodes) => nodes.map((node) => node.name)), graph.edges.map((edge) => [edge.from, edge.to, edge.side])]);
    if (shape !== this.shape || !this.place.firstChild) this.build(graph, columns, width);
    this.shape = shape;
    for (const edge of graph.edges) {
      const line = this.lines.get(`${edge.side} ${edge.from}\0${edge.to}`);
      if (!line) continue;
      line.classList.toggle("live", edge.rate > 0);
      line.setAttribute("stroke-width", (1 + Math.log10(1 + edge.rate) * 1.4).toFixed(1));
    }
    columns.forEach((nodes, index) => nodes.forEach((node) => {
      const label = `${node.full || node.name}` + (index < 2 ? `: ${this.rateText(node.rate)} events per second` : " receives");
      const drawn = this.nodes.get(`${index} ${node.name}`);
      drawn.setAttribute("aria-label", index === 1 ? `topic ${label}; show its events` : label);
      drawn.querySelector("title").textContent = label;
    }));
  }

  build(graph, columns, width) {
    const tallest = Math.max(...columns.map((nodes) => nodes.length));
    const height = HEAD + tallest * ROW;
    const gap = width * (columns.length === 3 ? 0.09 : 0.2);
    const box = Math.min(260, (width - 2 - gap * (columns.length - 1)) / columns.length);
    const step = columns.length > 1 ? (width - 2 - box) / (columns.length - 1) : 0;
    const focused = [...this.nodes].find(([, group]) => group === document.activeElement);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": "Senders, topics and receivers" });
    this.nodes = new Map();
    this.lines = new Map();
    const at = columns.map((nodes, index) => {
      const top = HEAD + ((tallest - nodes.length) * ROW) / 2;
      return new Map(nodes.map((node, row) => [node.name, [1 + index * step, top + row * ROW]]));
    });
    ["senders", "topics", "receivers"].slice(0, columns.length).forEach((name, index) => {
      make("text", { class: "head", x: 1 + index * step, y: 12, "aria-hidden": "true" }, svg).textContent = name;
    });
    const under = make("g", { "aria-hidden": "true" }, svg);
    for (const edge of graph.edges) {
      const side = edge.side === "out" ? 0 : 1;
      const from = at[side].get(edge.from), to = at[side + 1] && at[side + 1].get(edge.to);
      const key = `${edge.side} ${edge.from}\0${edge.to}`;
      if (!from || !to || this.lines.has(key)) continue;
      const [x, y] = [from[0] + box, from[1] + BOX / 2], [u, v] = [to[0], to[1] + BOX / 2], half = (x + u) / 2;
      this.lines.set(key, make("path", { class: "edge", d: `M${x} ${y}C${half} ${y} ${half} ${v} ${u} ${v}` }, under));
    }
    columns.forEach((nodes, index) => nodes.forEach((node) => {
      const [x, y] = at[index].get(node.name);
      const group = make("g", { class: "node", tabindex: 0, role: index === 1 ? "button" : "img" }, svg);
      make("title", {}, group);
      make("rect", { x, y, width: box, height: BOX, rx: 7 }, group);
      make("text", { x: x + 8, y: y + 17 }, group).textContent = fitting(node.name, box);
      if (index === 1) {
        group.classList.add("topic-node");
        group.addEventListener("click", () => this.onTopic(node.name));
        group.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          this.onTopic(node.name);
        });
      }
      for (const kind of ["mouseenter", "focus"]) group.addEventListener(kind, () => this.choose(svg, index, node.name));
      for (const kind of ["mouseleave", "blur"]) group.addEventListener(kind, () => svg.classList.remove("chosen"));
      this.nodes.set(`${index} ${node.name}`, group);
    }));
    this.place.replaceChildren(svg);
    if (focused) this.nodes.get(focused[0])?.focus({ preventScroll: true });
  }

  /** Let the lines of one node stand out. */
  choose(svg, index, name) {
    svg.classList.add("chosen");
    for (const [key, line] of this.lines) {
      const side = key.startsWith("out ") ? 0 : 1;
      const [from, to] = key.slice(key.indexOf(" ") + 1).split("\0");
      line.classList.toggle("on", (side === index && from === name) || (side + 1 === index && to === name));
    }
  }
}
