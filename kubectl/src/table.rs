//! Columns below each other, as kubectl prints them.

/// Rows below a head.
pub(crate) fn table<const N: usize>(head: [&str; N], body: &[[String; N]]) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    rows(&std::iter::once(head).chain(body.iter().map(|row| row.to_vec())).collect::<Vec<_>>())
}

/// Rows, each column as wide as its widest cell. The last column is not filled up.
pub(crate) fn rows(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".into(), "long enough".into(), "x".into()], ["bb".into(), "y".into(), String::new()]];
        assert_eq!(table(["N", "TEXT", "E"], &rows), "N   TEXT         E\na   long enough  x\nbb  y\n");
    }
}
