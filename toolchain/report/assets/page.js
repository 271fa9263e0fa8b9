// Tables that the reader filters and sorts, a page of rows at a time. Text becomes text: nothing here writes markup.
"use strict";

const PAGE = 50;
const LONG = 40; // characters: a column with longer values is one of texts
const collator = new Intl.Collator(undefined, { numeric: true });

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Names such as order_of_march may break behind their marks.
function breakable(text) {
  return text.split(/(?<=[_/.-])(?=.)/s).flatMap((piece, at) => (at ? [document.createElement("wbr"), piece] : [piece]));
}

// null where a cell is empty; an empty cell sorts behind every other, whichever way.
function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
}

function show(root) {
  const { columns, choices, values } = JSON.parse(root.querySelector("script").textContent);
  const total = values.length ? values[0].length : 0;
  const texts = Array.from({ length: total }, (_, row) =>
    values.map((column) => column[row] ?? "").join("\u0000").toLowerCase(),
  );
  const state = { search: "", chosen: new Map(), sorted: null, descending: false, page: 0 };
  let found = [];

  const status = root.querySelector(".count");
  const head = root.querySelector("thead");
  const body = root.querySelector("tbody");
  const filters = root.querySelector(".filters");
  const pager = root.querySelector(".pager");
  const numeric = values.map((column) => column.every((value) => value === null || typeof value === "number"));
  const kinds = values.map((column, at) =>
    numeric[at] ? "number" : column.some((value) => String(value ?? "").length > LONG) ? "text" : "",
  );

  const previous = element("button", { type: "button", textContent: "Previous" });
  const next = element("button", { type: "button", textContent: "Next" });
  const where = element("span");

  function find() {
    found = [];
    for (let row = 0; row < total; row += 1) {
      const chosen = [...state.chosen].every(([column, value]) => String(values[column][row] ?? "") === value);
      if (chosen && texts[row].includes(state.search)) found.push(row);
    }
    const column = values[state.sorted];
    if (column) {
      const sign = state.descending ? -1 : 1;
      found.sort((a, b) => {
        if (column[a] === null || column[b] === null) return (column[a] === null) - (column[b] === null);
        return sign * compare(column[a], column[b]);
      });
    }
    state.page = 0;
    draw();
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const rows = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
    body.replaceChildren(
      ...rows.map((row) =>
        element(
          "tr",
          { role: "row" },
          ...values.map((column, at) => {
            const cell = element("td", { role: "cell", className: kinds[at] }, ...breakable(String(column[row] ?? "")));
            cell.dir = "auto";
            cell.dataset.name = columns[at];
            return cell;
          }),
        ),
      ),
    );
    for (const [at, cell] of [...head.querySelectorAll("th")].entries()) {
      if (at === state.sorted) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    status.textContent = `${found.length.toLocaleString("en")} of ${total.toLocaleString("en")} rows`;
    where.textContent = `Page ${(state.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page + 1 >= pages;
  }

  function turn(by) {
    state.page += by;
    draw();
    const button = by < 0 ? previous : next;
    if (button.disabled) (by < 0 ? next : previous).focus();
  }

  function sort(at) {
    state.descending = state.sorted === at && !state.descending;
    state.sorted = at;
    find();
  }

  head.append(
    element(
      "tr",
      { role: "row" },
      ...columns.map((name, at) => {
        const button = element("button", { type: "button" }, ...breakable(name));
        button.addEventListener("click", () => sort(at));
        return element("th", { role: "columnheader", scope: "col", className: kinds[at] }, button);
      }),
    ),
  );

  const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.search = search.value.toLowerCase();
      find();
    }, 150);
  });
  filters.append(element("label", {}, "Rows that contain", search));
  for (const at of choices) {
    const select = element("select", {}, element("option", { value: "", textContent: "all" }));
    for (const value of [...new Set(values[at])].filter((value) => value !== null && value !== "").sort(compare)) {
      select.append(element("option", { value: `=${value}`, textContent: String(value) }));
    }
    select.addEventListener("change", () => {
      if (select.value) state.chosen.set(at, select.value.slice(1));
      else state.chosen.delete(at);
      find();
    });
    filters.append(element("label", {}, columns[at], select));
  }
  filters.addEventListener("submit", (event) => event.preventDefault());
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  pager.append(previous, where, next);
  find();
}

document.querySelectorAll(".rows").forEach(show);
