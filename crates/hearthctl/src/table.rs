//! Plain aligned tables.

use crate::output::{self, BOLD};

/// Rows of cells under one heading.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// A table with these headings; `right` lists the right-aligned columns.
    pub fn new(headings: &[&str], right: &'static [usize]) -> Self {
        Self {
            rows: vec![headings.iter().map(ToString::to_string).collect()],
            right,
        }
    }

    /// Adds a row with one cell per heading.
    pub fn row(&mut self, cells: Vec<String>) {
        // A line break in a cell would break the table.
        let one_line = |cell: String| output::clean(&cell).replace(['\n', '\t'], " ");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines of the table, starting with the heading.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| {
                    if self.right.contains(&column) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints the table, with a bold heading if colour is enabled.
    pub fn print(&self) -> crate::error::Result {
        for (i, line) in self.lines().iter().enumerate() {
            if i == 0 {
                output::line(&output::coloured(BOLD, line))?;
            } else {
                output::line(line)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "SIZE", "STATE"], &[1]);
        table.row(vec!["é".into(), "330.0 MiB".into(), "loaded".into()]);
        table.row(vec!["long\nname".into(), "1 B".into(), String::new()]);
        assert_eq!(
            table.lines(),
            [
                "NAME            SIZE  STATE",
                "é          330.0 MiB  loaded",
                "long name        1 B",
            ]
        );
    }
}
