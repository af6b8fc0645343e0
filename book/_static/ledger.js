/* A filter above each table of the ledger. Without this script the tables are simply whole. */
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.filtered").forEach((table, n) => {
    const rows = [...table.tBodies[0].rows];
    const bar = document.createElement("div");
    bar.className = "ledger-filter";
    bar.innerHTML = `<label for="filter-${n}">Show rows with</label> <input id="filter-${n}" type="search"> <output aria-live="polite"></output>`;
    const [input, count] = [bar.querySelector("input"), bar.querySelector("output")];
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((w) => text.includes(w));
        shown += !row.hidden;
      });
      count.textContent = `${shown} of ${rows.length}`;
    };
    input.addEventListener("input", apply);
    const place = table.closest(".pst-scrollable-table-container") || table;
    place.before(bar);
    const heads = [...table.tHead.rows[0].cells].map((c) => c.textContent.trim());
    rows.forEach((row) => [...row.cells].forEach((cell, i) => cell.setAttribute("data-head", heads[i])));
    apply();
  });
});
