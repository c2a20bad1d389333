"use strict";
{
  // Everything scraped is put in as text, never as markup.
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
    what.append(element("span", caption ? "" : "empty", caption || "no caption"),
                element("small", "field", `${key} · ${uid}`));
    const why = element("td", "", "");
    if (!reasons.length) why.append(element("span", "up", "kept"));
    for (const reason of reasons) why.append(element("span", "", reason));
    made.append(what, why);
    return made;
  };

  const search = () => {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = pairs.filter((_, index) => wanted.every((word) => words[index].includes(word)));
    list.replaceChildren(...(wanted.length ? found.slice(0, MOST).map(row) : []));
    count.textContent = !wanted.length ? "" : found.length > MOST
      ? `${found.length} pairs, the first ${MOST} are shown` : `${found.length} pairs`;
  };

  box.addEventListener("input", search);
  document.getElementById("search-area").hidden = false;
  search();
}
