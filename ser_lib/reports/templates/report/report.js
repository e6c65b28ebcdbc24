const button = document.getElementById("show-code");
const sources = document.querySelectorAll("details.source");
button.hidden = !sources.length;
button.onclick = () => {
  const open = button.textContent === "Show code";
  sources.forEach((source) => (source.open = open));
  button.textContent = open ? "Hide code" : "Show code";
};
for (const table of document.querySelectorAll("table.dataframe")) {
  // pandas writes the name of the index into a second row: move it up where the first row has room.
  const [first, second, ...more] = table.tHead.rows;
  if (second && !more.length && !first.cells[0].textContent && [...second.cells].slice(1).every((cell) => !cell.textContent)) {
    first.cells[0].textContent = second.cells[0].textContent;
    second.remove();
  }
  // Align columns of numbers on the right, and let long text wrap. Columns are counted from the right, because one
  // cell of the index may span several rows.
  const rows = [...table.tBodies[0].rows];
  const columns = rows.length ? rows[0].cells.length : 0;
  const fromRight = (row, i) => row.cells[row.cells.length - 1 - i];
  for (let i = 0; i < columns; i++) {
    const cells = rows.map((row) => fromRight(row, i)).filter((cell) => cell && cell.tagName === "TD");
    cells.filter((cell) => cell.textContent.length > 32).forEach((cell) => cell.classList.add("long"));
    if (!cells.length || !cells.every((cell) => /^[-+−]?[\d.,]+( ?%)?$|^(nan|NaN|<NA>|—)?$/.test(cell.textContent.trim()))) continue;
    const heads = [...table.tHead.rows].map((row) => fromRight(row, i)).filter(Boolean);
    [...cells, ...heads].forEach((cell) => cell.classList.add("num"));
  }
}
// A tap enlarges a picture on a narrow screen.
for (const picture of document.querySelectorAll(".output_png img")) {
  picture.onclick = () => picture.classList.toggle("enlarged");
}
