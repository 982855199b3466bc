// Rows as files: CSV with the columns of `mmmos score`, and JSON with the rows of the windows.

function flat(row) {
  const { segments, outline, error, ...rest } = row;
  return { ...rest, warnings: row.warnings.join(";"), error_code: error?.code ?? "", error_message: error?.message ?? "" };
}

const cell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function toCsv(rows) {
  const lines = rows.map(flat);
  const columns = Object.keys(lines[0]);
  return [columns, ...lines.map((line) => columns.map((name) => line[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

export const toJson = (rows) => `${JSON.stringify(rows.map(({ outline, ...row }) => row), null, 1)}\n`;

export function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
