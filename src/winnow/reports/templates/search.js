// The search in the pairs, where the page has some. What is scraped is put in as text, never as markup.
if (document.getElementById("pairs")) {
  const MOST = 60;
  const pairs = JSON.parse(document.getElementById("pairs").textContent);
  const words = pairs.map(([key, uid, caption, reasons]) =>
    [key, uid, caption, ...(reasons.length ? reasons : ["kept"])].join("\n").toLowerCase());
  const box = document.getElementById("search");
  const count = document.getElementById("search-count");
  const list = document.getElementById("search-found");

  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };

  const row = ([key, uid, caption, reasons]) => {
    const made = document.createElement("tr");
    const what = element("td", "", "");
    what.append(element("bdi", caption ? "" : "empty", caption || "no caption"),
                element("small", "field", `${key} · ${uid}`));
    const why = element("td", "", "");
    if (!reasons.length) why.append(element("span", "up", "kept"));
    for (const reason of reasons) why.append(element("bdi", "", reason));
    made.append(what, why);
    return made;
  };

  const search = () => {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = pairs.filter((_, index) => wanted.every((word) => words[index].includes(word)));
    list.replaceChildren(...(wanted.length ? found.slice(0, MOST).map(row) : []));
    count.textContent = !wanted.length ? "" : found.length > MOST
      ? `${found.length} pairs, the first ${MOST} are shown` : `${found.length} pair${found.length === 1 ? "" : "s"}`;
  };

  box.addEventListener("input", search);
  document.getElementById("search-area").hidden = false;
  search();
}
