//! A small table for people.

use crate::output::grouped;
use std::fmt::Write as _;

/// Rows of a label and some cells; the cells of a column end at the same place.
#[derive(Debug)]
pub(super) struct Table {
    title: String,
    rows: Vec<(String, Vec<String>)>,
    notes: Vec<(String, String)>,
}

impl Table {
    pub(super) fn new(title: String, head: &[&str]) -> Self {
        let head = head.iter().map(|&cell| cell.into()).collect();
        Self { title, rows: vec![(String::new(), head)], notes: Vec::new() }
    }

    /// Adds times in microseconds.
    pub(super) fn times(mut self, label: &str, times: &[f64]) -> Self {
        self.rows.push((label.into(), times.iter().map(|time| micros(*time)).collect()));
        self
    }

    /// Adds a line of text below the columns.
    pub(super) fn note(mut self, label: &str, text: String) -> Self {
        self.notes.push((label.into(), text));
        self
    }

    /// All lines, without an end of line behind the last one.
    pub(super) fn text(&self) -> String {
        let labels = self.rows.iter().map(|(label, _)| label);
        let labels = labels.chain(self.notes.iter().map(|(label, _)| label));
        let label_width = labels.map(String::len).max().unwrap_or(0);
        let columns = self.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = vec![self.title.clone()];
        for (label, cells) in self.rows.iter().filter(|_| columns > 0) {
            let mut line = format!("  {label:label_width$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(line, "  {cell:>width$}");
            }
            lines.push(line);
        }
        for (label, text) in &self.notes {
            lines.push(format!("  {label:label_width$}  {text}"));
        }
        lines.join("\n")
    }
}

/// A time in microseconds, in the unit in which it is easy to read.
fn micros(time: f64) -> String {
    match time {
        time if time < 1000.0 => format!("{time:.1} us"),
        time if time < 1e6 => format!("{:.2} ms", time / 1e3),
        time => format!("{:.2} s", time / 1e6),
    }
}

/// A number for people: thousands apart, and no digits that mean nothing.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    grouped(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let table = Table::new("lock: 3 nodes".into(), &["p50", "p99"])
            .times("hand-off", &[9.26, 1234.0])
            .times("wait", &[100.0, 2.5e6])
            .note("rate", format!("{} a second", number(1_234_567.8)));
        let expected = "\
lock: 3 nodes
                 p50      p99
  hand-off    9.3 us  1.23 ms
  wait      100.0 us   2.50 s
  rate      1,234,568 a second";
        assert_eq!(table.text(), expected);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0.5, 99.0, 100.0, 1000.0].map(number), ["0.50", "99.00", "100", "1,000"]);
    }
}
