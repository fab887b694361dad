//! Text for manual pages.

/// Text with blank lines between paragraphs; text in backticks becomes bold.
pub fn paragraphs(page: &mut String, text: &str) {
    for (n, paragraph) in text.trim().split("\n\n").enumerate() {
        if n > 0 {
            page.push_str(".PP\n");
        }
        for line in bold(&escaped(paragraph)).lines() {
            // A dot or quote at the start of a line is a roff request.
            if line.starts_with(['.', '\'']) {
                page.push_str("\\&");
            }
            page.push_str(line);
            page.push('\n');
        }
    }
}

pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn bold(text: &str) -> String {
    let mut parts = text.split('`');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (n, part) in parts.enumerate() {
        out.push_str(if n % 2 == 0 { "\\fB" } else { "\\fR" });
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_roff() {
        let mut out = String::new();
        paragraphs(&mut out, "a-b `c` \\d\n.e\n'f\n\ng");
        assert_eq!(out, "a\\-b \\fBc\\fR \\ed\n\\&.e\n\\&'f\n.PP\ng\n");
    }
}
