// The table of all results: a click on a head sorts the rows, and the text box hides rows without its words.
const table = document.querySelector("table.results");
const rows = table ? [...table.tBodies[0].rows] : [];
const heads = table ? [...table.tHead.rows[0].cells] : [];
// Numbers are written with a fixed number of decimals, so that comparing their digits compares them.
const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
heads.forEach((head, column) => {
  head.firstElementChild.onclick = () => {
    // Numbers: highest first; names: from a to z. A second click turns the order around.
    const ascending = head.ariaSort ? head.ariaSort === "descending" : !head.classList.contains("num");
    heads.forEach((other) => { other.ariaSort = null; });
    head.ariaSort = ascending ? "ascending" : "descending";
    const compare = (a, b) => valueOf(a, column).localeCompare(valueOf(b, column), "en", { numeric: true });
    table.tBodies[0].append(...rows.sort((a, b) => (ascending ? compare(a, b) : compare(b, a))));
  };
});
const box = document.getElementById("filter");
if (box) box.oninput = () => {
  const words = box.value.toLowerCase().split(/\s+/);
  rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
  document.getElementById("matches").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
};
