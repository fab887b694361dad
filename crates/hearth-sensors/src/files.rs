//! Small kernel files.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file's text, with surrounding blanks and NULs trimmed; bytes that are not UTF-8 are
/// replaced (a comment in config.txt may be in any encoding).
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let blank = |c: char| c.is_whitespace() || c == '\0';
    Some(String::from_utf8_lossy(&bytes).trim_matches(blank).into())
}

/// A file that holds one number.
pub(super) fn number<T: FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// Entries of a folder whose name passes the filter, ordered by name.
pub(super) fn entries(folder: &Path, pass: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&pass))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Returns the value unchanged; clears `complete` if a file that was found gave none.
pub(super) fn noted<T>(value: Option<T>, complete: &mut bool) -> Option<T> {
    *complete &= value.is_some();
    value
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A temporary root with these files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), files);
        root
    }

    /// Writes these files below a root.
    pub(crate) fn put(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn numbers_are_parsed_and_invalid_text_is_none() {
        for (content, value) in [
            ("48312\n", Some(48_312)),
            (" -5 \n", Some(-5)),
            ("7\0", Some(7)),
            ("", None),
            ("max\n", None),
            ("4.5\n", None),
            ("99999999999999999999\n", None),
        ] {
            let root = tree(&[("n", content)]);
            assert_eq!(number::<i32>(&root.path().join("n")), value, "{content:?}");
        }
        let root = tree(&[("d/n", "1")]);
        assert_eq!(number::<i32>(&root.path().join("d")), None);
        assert_eq!(number::<i32>(&root.path().join("missing")), None);
    }

    #[test]
    fn text_in_other_encodings_is_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("t");
        fs::write(&path, b"# f\xfcr\ntemp_limit=70\n").unwrap();
        assert!(text(&path).unwrap().ends_with("temp_limit=70"));
    }
}
