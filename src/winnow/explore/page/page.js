"use strict";
{
  // The address says all that is shown, so that it can be kept, sent on and gone back to.
  // Everything scraped is put in as text, never as markup.
  const AUDIT = {
    own_probability: "own caption's probability", own_probability_late: "in the last half",
    margin: "margin to the best other", not_first: "share of times not first",
    target_other_mass: "target's mass elsewhere", times: "times seen",
  };
  const by = (id) => document.getElementById(id);
  const of = encodeURIComponent(document.body.dataset.of);
  const number = new Intl.NumberFormat("en");
  const short = (value, digits = 3) =>
    value === null || value === undefined ? "unknown" : Number(value.toPrecision(digits)).toString();
  const cosine = (value) => value.toFixed(3).replace("-", "−");

  const element = (tag, name, text, ...inside) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text) made.textContent = text;
    made.append(...inside);
    return made;
  };
  const words = (tag, name, text) => {
    const made = element(tag, name, text);
    made.dir = "auto";
    return made;
  };
  const picture = (address, alt) => {
    const made = document.createElement("img");
    made.alt = alt;
    made.loading = "lazy";
    made.src = address;
    return made;
  };
  const thumbnail = (row, alt) => picture(`/thumbnails/${row}?of=${of}`, alt);

  const asked = () => new URLSearchParams(location.search);
  const address = (changes) => {
    const parameters = asked();
    for (const [name, value] of Object.entries(changes)) {
      if (value) parameters.set(name, value); else parameters.delete(name);
    }
    const line = parameters.toString();
    return line ? `?${line}` : "/";
  };
  const nothing = { text: "", like: "", upload: "", key: "", page: "", pair: "" };
  const go = (changes) => {
    history.pushState(null, "", address(changes));
    return show();
  };
  const follow = (event, changes) => {
    // A link: another tab, a bookmark or the keyboard work as with any other.
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(changes);
  };

  const fetched = async (where, options) => {
    let answer;
    try {
      answer = await fetch(where, options);
    } catch {
      throw new Error("The server does not answer: is it still running?");
    }
    const told = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
    if (!answer.ok) throw new Error(told.error);
    return told;
  };
  const problem = (error) => {
    by("problem").textContent = error ? error.message : "";
    by("problem").hidden = !error;
  };

  const outcome = (pair) => {
    const made = element("span", pair.outcome, pair.outcome);
    const why = pair.outcome === "error" ? [pair.error] : pair.reasons;
    return why.length ? [made, words("span", "why", why.join(" · "))] : [made];
  };
  const card = (pair) => {
    const link = element("a", "pair");
    link.href = address({ pair: `${pair.row}` });
    link.addEventListener("click", (event) => follow(event, { pair: `${pair.row}` }));
    const facts = element("span", "facts");
    if (pair.cosine !== null) facts.append(element("span", "", `query ${cosine(pair.cosine)}`));
    facts.append(element("span", "", `caption ${cosine(pair.own_cosine)}`));
    if (pair.audit.own_probability !== undefined && pair.audit.own_probability !== null) {
      facts.append(element("span", "", `belief ${short(pair.audit.own_probability, 2)}`));
    }
    link.append(thumbnail(pair.row, ""), words("span", "caption", pair.caption || "no caption"),
                ...outcome(pair), facts);
    return element("li", "", "", link);
  };

  let latest = 0;
  let listed = null;
  const list = async () => {
    const parameters = asked();
    parameters.delete("pair");
    const line = parameters.toString();
    if (line === listed) return;
    const own = ++latest;
    listed = null;
    by("status").textContent = "Searching …";
    try {
      const told = await fetched(`/pairs?${line}`);
      if (own !== latest) return;
      listed = line;
      const spent = told.milliseconds;
      by("status").textContent =
        `${told.is_near ? "the nearest " : ""}${number.format(told.total)} pairs` +
        (told.pairs.length ? `, ${number.format(told.first)} to ${number.format(told.first + told.pairs.length - 1)} shown` : "") +
        ` · searched in ${spent.search.toFixed(1)} ms` +
        (parameters.has("text") ? `, after ${spent.model.toFixed(1)} ms in the model` : "");
      by("found").replaceChildren(...told.pairs.map(card));
      by("page").textContent = `page ${number.format(told.page)} of ${number.format(told.pages)}`;
      by("before").disabled = told.page <= 1;
      by("after").disabled = told.page >= told.pages;
      by("before").onclick = () => turn(Math.min(told.page - 1, told.pages));
      by("after").onclick = () => turn(told.page + 1);
    } catch (error) {
      if (own !== latest) return;
      listed = null;
      by("status").textContent = "";
      by("found").replaceChildren();
      problem(error);
    }
  };
  const turn = async (page) => {
    await go({ page: page > 1 ? `${page}` : "", pair: "" });
    scrollTo(0, 0);
    by("found").focus({ preventScroll: true });
  };

  const target = () => {
    const parameters = asked();
    const [like, upload] = [parameters.get("like"), parameters.get("upload")];
    by("target").hidden = !like && !upload;
    if (!like && !upload) return;
    const shown = like ? thumbnail(encodeURIComponent(like), "The picture that is searched by")
      : picture(`/uploads/${encodeURIComponent(upload)}`, "The picture that is searched by");
    const clear = element("button", "", "Clear");
    clear.type = "button";
    clear.addEventListener("click", () => go(nothing));
    by("target").replaceChildren(shown, element("span", "", "Pictures nearest to this one"), clear);
  };

  const said = (pair) => {
    if (pair.unexplained) return element("p", "soft", pair.unexplained);
    const body = element("tbody");
    for (const rule of pair.rules) {
      const why = [rule.why, ...rule.measures.map((measure) => {
        const kept = [["from", measure.least], ["to", measure.most]]
          .filter(([, bound]) => bound !== null).map(([word, bound]) => `${word} ${short(bound, 6)}`);
        return `${measure.name} ${short(measure.value, 6)}${kept.length ? `, kept ${kept.join(" ")}` : ""}`;
      })].filter(Boolean);
      const tone = { keeps: "kept", drops: "dropped" }[rule.says] || "soft";
      body.append(element("tr", "", "", element("td", "", rule.rule), element("td", tone, rule.says),
                          words("td", "", why.join("; "))));
    }
    const head = element("thead", "", "", element("tr", "", "",
      ...["rule", "says", "why"].map((name) => element("th", "", name))));
    return element("div", "scroll", "", element("table", "", "", head, body));
  };
  const better = (pair) => {
    const body = element("tbody");
    for (const one of pair.better) {
      body.append(element("tr", "", "", element("td", "number", cosine(one.cosine)),
        words("td", "caption", one.caption), element("td", "kept number", one.is_own ? "its own" : "")));
    }
    return element("div", "scroll", "", element("table", "", "", body));
  };
  const facts = (pair) => {
    const made = element("dl");
    const add = (name, value) => {
      if (value) made.append(element("dt", "", name), words("dd", "", value));
    };
    const rank = (one) => `${number.format(one.rank)} of ${number.format(one.of)}`;
    add("cosine with its caption", cosine(pair.own_cosine));
    add("its caption's rank", `${rank(pair.caption_rank)} distinct captions`);
    add("its picture's rank", `${rank(pair.picture_rank)} pictures`);
    for (const [name, words_] of Object.entries(AUDIT)) {
      if (name in pair.audit) add(words_, short(pair.audit[name]));
    }
    add("key", pair.key);
    add("uid", pair.uid);
    add("picture", `${pair.width} x ${pair.height} pixels, ${pair.format}`);
    add("from", `${pair.shard}, ${pair.place}`);
    add("url", pair.url);
    return made;
  };

  let opened = null;
  const open = async () => {
    const row = asked().get("pair");
    const dialog = by("pair");
    if (!row) {
      opened = null;
      if (dialog.open) dialog.close();
      return;
    }
    if (opened === row) return;
    opened = row;
    try {
      const pair = await fetched(`/pairs/${encodeURIComponent(row)}`);
      if (opened !== row) return;
      const like = element("a", "", "Search by this picture");
      like.href = address({ ...nothing, like: row });
      like.addEventListener("click", (event) => follow(event, { ...nothing, like: row }));
      const whole = picture(`/pictures/${encodeURIComponent(row)}?of=${of}`, pair.caption.slice(0, 200));
      const left = element("div", "", "", whole, element("p", "", "", like));
      const caption = words("p", "caption words", pair.caption || "no caption");
      caption.tabIndex = 0;
      const right = element("div", "", "", caption,
                            element("p", "", "", ...outcome(pair).flatMap((one) => [one, " "])), facts(pair));
      by("pair-title").textContent = `Pair ${pair.key}`;
      const graph = pair.graph ? [element("h3", "", "What its caption says"), words("pre", "", pair.graph)] : [];
      by("pair-body").replaceChildren(
        element("div", "two", "", left, right),
        element("h3", "", "What the rules say"), said(pair), ...graph,
        element("h3", "", "Captions nearest to its picture"), better(pair),
        element("h3", "", "Nearest pictures"),
        element("ul", "grid", "", ...pair.nearest.map(card)),
      );
      if (!dialog.open) dialog.showModal();
      dialog.scrollTop = 0;
      by("close").focus();
    } catch (error) {
      if (opened !== row) return;
      opened = null;
      if (dialog.open) dialog.close();
      problem(error);
    }
  };

  const show = async () => {
    problem(null);
    const parameters = asked();
    by("words").value = parameters.get("text") || parameters.get("key") || "";
    by("by").value = parameters.has("key") ? "key" : "text";
    for (const name of ["show", "reason", "order"]) by(name).value = parameters.get(name) || "";
    document.title = `${parameters.get("text") || parameters.get("key") || "winnow explore"}`;
    target();
    await Promise.all([list(), open()]);
  };

  const hand_in = async (file) => {
    if (!file) return;
    by("status").textContent = "Looking at the picture …";
    listed = null;
    try {
      const told = await fetched("/uploads", { method: "POST", body: file });
      await go({ ...nothing, upload: told.token });
    } catch (error) {
      by("status").textContent = "";
      problem(error);
    }
  };

  by("search").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ ...nothing, [by("by").value]: by("words").value.trim() });
  });
  for (const name of ["show", "reason", "order"]) {
    by(name).addEventListener("change", () => go({ [name]: by(name).value, page: "", pair: "" }));
  }
  by("file").addEventListener("change", () => hand_in(by("file").files[0]).then(() => { by("file").value = ""; }));
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    hand_in(event.dataTransfer.files[0]);
  });
  by("close").addEventListener("click", () => go({ pair: "" }));
  by("pair").addEventListener("cancel", (event) => { event.preventDefault(); go({ pair: "" }); });
  addEventListener("popstate", show);
  show();
}
