//! Plain columns: what lists are printed in, easy on the eye and for cut and awk.

/// A header and rows, each column as wide as its widest cell; the last is not padded.
pub fn columns<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut all: Vec<[String; N]> = vec![header.map(str::to_owned)];
    all.extend(rows);
    let mut width = [0; N];
    for row in &all {
        for (w, cell) in width.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &all {
        let mut line = String::new();
        for (w, cell) in width.iter().zip(row) {
            line.push_str(&format!("{cell:<w$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let rows = [["naive".to_owned(), "x".to_owned()], ["a".to_owned(), String::new()]];
        assert_eq!(super::columns(["S", "MODE"], rows), "S      MODE\nnaive  x\na\n");
    }
}
