const button = document.getElementById("show-code");
const sources = document.querySelectorAll("details.source");
button.hidden = !sources.length;
button.onclick = () => {
  const open = button.textContent === "Show code";
  sources.forEach((source) => (source.open = open));
  button.textContent = open ? "Hide code" : "Show code";
};
// Columns of numbers stand on the right, where their digits line up.
for (const table of document.querySelectorAll("table.dataframe")) {
  const rows = [...table.tBodies[0].rows];
  const columns = rows.length ? rows[0].cells.length : 0;
  for (let i = 0; i < columns; i++) {
    const cells = rows.map((row) => row.cells[i]).filter((cell) => cell && cell.tagName === "TD");
    if (!cells.length || !cells.every((cell) => /^[-+−]?[\d.,]+( ?%)?$|^(nan|NaN|<NA>|—)?$/.test(cell.textContent.trim()))) continue;
    const heads = [...table.tHead.rows].map((row) => row.cells[i]).filter(Boolean);
    [...cells, ...heads].forEach((cell) => cell.classList.add("num"));
  }
}
