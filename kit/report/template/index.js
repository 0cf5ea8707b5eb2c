"use strict";
(() => {
  const table = document.getElementById("records-table");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const untouched = Array.from(count.childNodes);
  const total = Number(table.dataset.total);
  const shards = (table.dataset.shards || "").split(" ").filter(Boolean);
  const numeric = new Set([3, 4, 5]);
  const collator = new Intl.Collator("en");
  const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);

  // An item is a record: the keys that columns are sorted by, the text that is searched, and its row, made when shown.
  const newest = Array.from(body.rows, (row) => {
    const keys = Array.from(row.cells, (cell) => cell.dataset.key ?? cell.textContent);
    return { keys, text: row.textContent.toLowerCase(), row };
  });
  let items = newest;
  let order = null;
  let loading = null;

  const compare = (one, two) => {
    const [a, b] = [one.keys[order.column], two.keys[order.column]];
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    const sign = order.down ? -1 : 1;
    return sign * (numeric.has(order.column) ? Number(a) - Number(b) : collator.compare(a, b));
  };

  const show = () => {
    const wanted = words();
    let found = wanted.length ? items.filter((item) => wanted.every((word) => item.text.includes(word))) : items;
    if (order) found = found.slice().sort(compare);
    const shown = wanted.length || order ? found.slice(0, newest.length) : newest;
    body.replaceChildren(...shown.map((item) => (item.row ??= makeRow(item))));
    const more = shown.length < found.length ? `, ${group(shown.length)} are shown` : "";
    const all = `${group(items.length)} ${items.length < total ? "newest " : ""}record${items.length === 1 ? "" : "s"}`;
    const told = wanted.length || (order && more) ? [`${group(found.length)} of ${all}${more}`] : untouched;
    count.replaceChildren(...told);
  };

  const update = () => {
    show();
    if (!shards.length || (!words().length && !order)) return;
    loading ??= load();
    loading.then(show, (error) => {
      loading = null;
      show();
      count.append(`; the others cannot be read (${error.message}): reload this page, or make it again with kit report`);
    });
  };

  const load = async () => {
    const received = new Map();
    window.kitRecords = (shard) => received.set(document.currentScript, shard);
    const read = await Promise.all(shards.map((shard) => loadShard(shard, received)));
    const hasPage = readRuns(table.dataset.pages);
    const loaded = read.flatMap(readShard);
    loaded.forEach((item, place) => (item.hasPage = hasPage[place] === 1));
    items = loaded.reverse();
  };

  const loadShard = (shard, received) =>
    new Promise((resolve, reject) => {
      const [path, sha256] = shard.split(":");
      const script = document.createElement("script");
      script.src = `./${path}`;
      if (location.protocol !== "file:") script.integrity = `sha256-${btoa(String.fromCharCode(...bytesOf(sha256)))}`;
      script.onload = () => (received.has(script) ? resolve(received.get(script)) : reject(new Error(path)));
      script.onerror = () => reject(new Error(path));
      document.head.append(script);
    });

  const bytesOf = (hex) => hex.match(/../g).map((pair) => parseInt(pair, 16));

  const readRuns = (text) => {
    const marks = new Uint8Array(total);
    for (const run of text.split(" ").filter(Boolean)) {
      const [first, last] = run.split("-").map(Number);
      marks.fill(1, first, (last ?? first) + 1);
    }
    return marks;
  };

  const readShard = ({ base, texts, rows }) =>
    rows.map(([offset, stage, environment, status, took, metric, value, id, again]) => {
      const seconds = base + offset;
      const whole = id.startsWith("=") ? id.slice(1) : `${stamp(seconds)}-${texts[stage]}-${id}`;
      const keys = [texts[stage], texts[status], texts[environment], seconds, took ?? "", value ?? "", whole];
      const told = [texts[stage], again ? "again" : "", texts[status], texts[environment], tellMoment(seconds), texts[metric], whole];
      return { keys, text: told.join(" ").toLowerCase(), metric: texts[metric], again };
    });

  const makeRow = ({ keys, metric, again, hasPage }) => {
    const [stage, status, environment, seconds, took, value, id] = keys;
    const link = hasPage ? element("a", {}, stage) : stage;
    if (hasPage) link.href = `./records/${encodeURIComponent(id)}.html`;
    const tag = again ? [" ", element("span", { className: "tag" }, "again")] : [];
    const tone = { succeeded: "good", started: "open" }[status] ?? "bad";
    const time = element("time", { dateTime: new Date(seconds * 1000).toISOString() }, tellMoment(seconds));
    const number = value === "" ? [] : [element("span", { className: "quiet" }, metric), ` ${tellNumber(value)}`];
    const head = element("th", { scope: "row" }, link, ...tag);
    return element("tr", {}, head,
      element("td", {}, element("span", { className: `pill ${tone}` }, status)),
      element("td", {}, environment),
      element("td", {}, time),
      element("td", { className: "n" }, tellSeconds(took)),
      element("td", { className: "n" }, ...number),
      element("td", {}, element("code", {}, id)));
  };

  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // The same words as in kit/report/rows.py.
  const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const two = (number) => String(number).padStart(2, "0");
  const group = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  const stamp = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
  const tellMoment = (seconds) => {
    const at = new Date(seconds * 1000);
    const day = `${at.getUTCDate()} ${months[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
    return `${day}, ${two(at.getUTCHours())}:${two(at.getUTCMinutes())} UTC`;
  };
  const tellSeconds = (seconds) => {
    if (seconds === "") return "–";
    if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
    if (minutes < 60) return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const tellNumber = (value) => {
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e15) return group(value);
    if (size >= 1000 && size < 1e15) {
      const [whole, part] = value.toFixed(1).split(".");
      return `${group(whole)}.${part}`;
    }
    return size >= 0.001 && size < 10 ? value.toFixed(4) : String(Number(value.toPrecision(4)));
  };

  search.parentElement.hidden = false;
  search.addEventListener("input", update);
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      order = { column, down: head.getAttribute("aria-sort") === "ascending" };
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      update();
    });
  });
  if (location.hash.startsWith("#search=")) {
    search.value = decodeURIComponent(location.hash.slice(8));
    update();
  }
})();
