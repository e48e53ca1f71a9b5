"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const tip = document.querySelector(".tip");

  function say(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + box.height + 22 > innerHeight ? Math.max(6, y - box.height - 12) : y + 16) + "px";
  }
  function hush() {
    tip.hidden = true;
    all(".cursor").forEach((line) => line.remove());
  }
  addEventListener("scroll", hush, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

  // Where nothing may be stored (a file in a strict browser), the choice holds for this page.
  const stored = {
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* nothing is lost */ } },
  };

  const themes = ["auto", "light", "dark"];
  const themeButton = document.querySelector("[data-theme-button]");
  function useTheme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    themeButton.querySelector("[data-theme-name]").textContent = name[0].toUpperCase() + name.slice(1);
    themeButton.setAttribute("aria-label", `Colours: ${name}. Change`);
    stored.set("bertkit-theme", name);
  }
  let theme = themes.includes(stored.get("bertkit-theme")) ? stored.get("bertkit-theme") : "auto";
  useTheme(theme);
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    useTheme(theme);
  });

  const axisChoice = document.querySelector("[data-choice='axis']");
  const figures = all(".picture").filter((figure) => all(".plot", figure).length > 1);
  axisChoice.hidden = figures.length === 0;
  all("button", axisChoice).forEach((button) => button.addEventListener("click", () => {
    all("button", axisChoice).forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    figures.forEach((figure) => all(".plot", figure).forEach((plot) => { plot.hidden = plot.dataset.axis !== button.dataset.value; }));
    hush();
  }));

  all("[role='tablist']").forEach((list) => {
    const tabs = all("[role='tab']", list);
    const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
    function choose(chosen, moves) {
      tabs.forEach((tab) => {
        const selected = tab === chosen;
        tab.setAttribute("aria-selected", String(selected));
        tab.tabIndex = selected ? 0 : -1;
        panel(tab).hidden = !selected;
      });
      if (moves) chosen.focus();
    }
    choose(tabs[0], false);
    tabs.forEach((tab, place) => {
      tab.addEventListener("click", () => choose(tab, false));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        choose(tabs[(to + tabs.length) % tabs.length], true);
      });
    });
  });
  // A link into a chapter that is not shown shows it.
  function showTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const panel = target && target.closest("[data-panel][hidden]");
    if (panel) {
      document.getElementById(panel.getAttribute("aria-labelledby")).click();
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", showTarget);
  showTarget();

  all("table[data-sortable]").forEach((table) => {
    const body = table.tBodies[0];
    if (body.rows.length < 2) return;
    all("thead th", table).forEach((head, column) => {
      if (!head.textContent) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numbers = [...body.rows].some((row) => row.cells[column]?.dataset.value !== undefined);
        const now = head.getAttribute("aria-sort");
        const order = now ? (now === "ascending" ? "descending" : "ascending") : (numbers ? "descending" : "ascending");
        const sign = order === "ascending" ? 1 : -1;
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const value = (row) => {
          const cell = row.cells[column];
          return numbers ? Number(cell?.dataset.value ?? "NaN") : cell?.textContent ?? "";
        };
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          if (!numbers) return sign * x.localeCompare(y, undefined, { numeric: true });
          // What has no number stays at the end.
          return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : sign * (x - y);
        };
        body.replaceChildren(...[...body.rows].sort(compare));
      });
    });
  });

  function written(value, form) {
    if (value === null) return "–";
    if (form === "percent") return (100 * value).toFixed(1) + " %";
    if (form === "count") return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  }
  function place(value, axis, title, ticks) {
    if (ticks.length) return `${ticks[Math.round(value)]} ${title}`;
    if (axis === "time") return value < 120 ? `${value.toFixed(1)} s` : `${(value / 60).toFixed(1)} min`;
    if (axis === "steps" || axis === "tokens") return `${Math.round(value).toLocaleString("en")} ${title}`;
    return `${title}: ${Number(value.toPrecision(4))}`;
  }
  all(".picture").forEach((figure) => {
    const data = JSON.parse(figure.querySelector(".values").textContent);
    if (!data.series.length) return;
    all(".plot", figure).forEach((plot) => {
      const axis = plot.dataset.axis;
      const frame = data.axes[axis];
      const places = [...new Set(data.series.flatMap((series) => series.x[axis]))].filter((x) => x !== null).sort((a, b) => a - b);
      let at = -1;
      function show(number) {
        at = Math.max(0, Math.min(number, places.length - 1));
        const x = places[at];
        const drawing = plot.querySelector("svg");
        const scale = drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width;
        const left = (frame.box[0] + (frame.box[2] - frame.box[0]) * (x - frame.x[0]) / (frame.x[1] - frame.x[0])) * scale;
        all(".cursor").forEach((line) => line.remove());
        const line = document.createElement("span");
        line.className = "cursor";
        line.style.left = left + "px";
        line.style.top = frame.box[1] * scale + "px";
        line.style.height = (frame.box[3] - frame.box[1]) * scale + "px";
        plot.append(line);
        // Evaluations are rarer than log lines: the nearest one that is near.
        const near = (places[places.length - 1] - places[0]) * 0.04;
        const lines = data.series.flatMap((series) => {
          let best = -1;
          series.x[axis].forEach((each, n) => {
            if (each !== null && Math.abs(each - x) <= near && (best < 0 || Math.abs(each - x) < Math.abs(series.x[axis][best] - x))) best = n;
          });
          return best < 0 ? [] : [`${series.name}: ${written(series.y[best], data.form)}`];
        });
        const box = plot.getBoundingClientRect();
        say([place(x, axis, frame.title, data.ticks), ...lines].join("\n"), box.left + left, box.top + box.height * 0.35);
      }
      plot.addEventListener("pointermove", (event) => {
        const drawing = plot.querySelector("svg").getBoundingClientRect();
        const scale = drawing.width / plot.querySelector("svg").viewBox.baseVal.width;
        const x = frame.x[0] + ((event.clientX - drawing.left) / scale - frame.box[0]) / (frame.box[2] - frame.box[0]) * (frame.x[1] - frame.x[0]);
        let nearest = 0;
        places.forEach((each, n) => { if (Math.abs(each - x) < Math.abs(places[nearest] - x)) nearest = n; });
        show(nearest);
      });
      plot.addEventListener("pointerleave", hush);
      plot.addEventListener("blur", hush);
      plot.addEventListener("keydown", (event) => {
        const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: places.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        show(to);
      });
    });
  });

  all(".sentence").forEach((sentence) => {
    const words = all(".word", sentence);
    function show(word) {
      const guesses = word.dataset.guesses.split("\n").map((guess) => guess.split("\t")).map(([text, share]) => `${share} %  ${text}`);
      const box = word.getBoundingClientRect();
      say(`${word.textContent}: ${word.dataset.probability} %, rank ${Number(word.dataset.rank).toLocaleString("en")}\n${guesses.join("\n")}`, box.left, box.bottom - 8);
    }
    words.forEach((word, number) => {
      word.addEventListener("pointerenter", () => show(word));
      word.addEventListener("pointerleave", hush);
      word.addEventListener("focus", () => show(word));
      word.addEventListener("blur", hush);
      word.addEventListener("keydown", (event) => {
        const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: words.length - 1 }[event.key];
        if (to === undefined || !words[to]) return;
        event.preventDefault();
        word.tabIndex = -1;
        words[to].tabIndex = 0;
        words[to].focus();
      });
    });
  });

  addEventListener("beforeprint", () => all("details").forEach((each) => { each.dataset.was = each.open; each.open = true; }));
  addEventListener("afterprint", () => all("details").forEach((each) => { each.open = each.dataset.was === "true"; }));
})();
