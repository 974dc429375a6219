// Numbers and times as people read them.

export function bytes(n) {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? n : n.toFixed(2)} ${units[unit]}`;
}

export function count(n) {
  return n == null ? "–" : n.toLocaleString("en");
}

export function time(text) {
  return text ? new Date(text).toLocaleString() : "";
}

// A cell of the comparison, without the unit, which the head of the column tells.
export function metric(column, value) {
  if (column.unit === "%") {
    return (value * 100).toFixed(2);
  }
  if (column.unit === "B" || Number.isInteger(value)) {
    return count(value);
  }
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toPrecision(4);
}
