//! Tables and quantities that read well at 80 columns.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Columns of the narrowest terminal that tables are made for.
const COLUMNS: usize = 79;

/// How a column stands in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) struct Table {
    headings: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[(&'static str, Align)]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: one cell for each heading.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it. A row longer than the terminal is cut at its last column.
    pub(crate) fn print(&self, out: &mut dyn Write) -> fmt::Result {
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
                let heading = self.headings.get(column).map_or(0, |(heading, _)| heading.len());
                cells.max().unwrap_or(0).max(heading)
            })
            .collect();
        let headings = self.headings.iter().map(|(heading, _)| heading.to_string()).collect();
        for row in core::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.headings) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => write!(line, "{cell:<width$}")?,
                    Align::Right => write!(line, "{cell:>width$}")?,
                }
            }
            let line = line.trim_end();
            let end = line.char_indices().nth(COLUMNS).map_or(line.len(), |(index, _)| index);
            writeln!(out, "{}", line.get(..end).unwrap_or(line))?;
        }
        Ok(())
    }
}

/// Bytes in the unit that leaves up to four digits: `512 B`, `3.2 MiB`, `128 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    // Tenths of the unit, cut off rather than rounded: a disk is never shown larger than it is.
    let mut tenths = number.saturating_mul(10) / 1024;
    if number > u64::MAX / 10 {
        tenths = number / 1024 * 10;
    }
    let mut unit = UNITS.iter();
    let mut name = unit.next();
    while tenths >= 10_240 {
        let Some(next) = unit.next() else { break };
        name = Some(next);
        tenths /= 1024;
    }
    let name = name.unwrap_or(&"");
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", tenths / 10)
    }
}

/// `3 days 04:05:06`, or `04:05:06` in the first day.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match days {
        0 => time,
        1 => format!("1 day {time}"),
        _ => format!("{days} days {time}"),
    }
}

/// A share of a whole in percent, `-` of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 100).checked_div(u128::from(whole)) {
        Some(percent) => format!("{percent} %"),
        None => "-".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        assert_eq!(
            [0, 1023, 1024, 1536, 10 << 20, (1 << 30) - 1, 4_000_000_000_000, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 MiB", "1023 MiB", "3.6 TiB", "16383 PiB"]
        );
        assert_eq!(duration(59_999), "00:00:59");
        assert_eq!(duration(86_400_000 * 2 + 3_661_000), "2 days 01:01:01");
        assert_eq!(percent(1, 3), "33 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100 %");
        assert_eq!(percent(1, 0), "-");
    }

    #[test]
    fn columns_line_up_and_rows_are_cut() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["a".into(), "1 B".into(), "x".repeat(100)]);
        table.row(vec!["longer".into(), "1023 MiB".into(), String::new()]);
        let mut text = String::new();
        table.print(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME        SIZE  NOTE");
        assert_eq!(lines[1].len(), 79);
        assert_eq!(lines[2], "longer  1023 MiB");
    }
}
