//! Pressure Stall Information (kernel: Documentation/accounting/psi.rst).

use std::path::{Path, PathBuf};

use hearth_proto::reading::Psi;
use hearth_proto::units::Permille;

use super::files::text;

/// The first of these files that can be read. A kernel with PSI turned off may have the
/// files nevertheless and return an error when they are read.
pub(super) fn find(candidates: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    candidates.into_iter().find(|path| read(path).is_some())
}

/// Reads a pressure file.
pub(super) fn read(path: &Path) -> Option<Psi> {
    parse(&text(path)?)
}

fn parse(text: &str) -> Option<Psi> {
    let avg10 = |kind: &str| {
        let mut words = text
            .lines()
            .map(str::split_whitespace)
            .find_map(|mut words| (words.next() == Some(kind)).then_some(words))?;
        permille(words.find_map(|word| word.strip_prefix("avg10="))?)
    };
    Some(Psi {
        some_avg10: avg10("some")?,
        // Kernels before 5.13 have no such line for the CPU.
        full_avg10: avg10("full").unwrap_or_default(),
    })
}

/// A percentage with two decimals, as the kernel prints it.
fn permille(percent: &str) -> Option<Permille> {
    let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
    let whole: u16 = whole.parse().ok().filter(|whole| *whole <= 100)?;
    let tenth = decimals.chars().next()?.to_digit(10)?;
    let value = whole * 10 + u16::try_from(tenth).ok()?;
    Some(Permille(value).min(Permille::FULL))
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::tree;
    use super::*;

    #[test]
    fn pressure_files_are_parsed() {
        let both = "some avg10=12.34 avg60=1.00 avg300=0.10 total=42\nfull avg10=3.09 avg60=0.00 avg300=0.00 total=7\n";
        for (name, content, some, full) in [
            ("both", both, Some(123), 30),
            (
                "an old kernel's CPU",
                "some avg10=100.00 avg60=0.00 avg300=0.00 total=1\n",
                Some(1000),
                0,
            ),
            ("zero", "some avg10=0.00\nfull avg10=0.00\n", Some(0), 0),
            ("only full", "full avg10=1.00\n", None, 0),
            ("no avg10", "some avg60=1.00\n", None, 0),
            ("garbage", "some avg10=high\n", None, 0),
            ("too much", "some avg10=65536.00\n", None, 0),
            ("no decimals", "some avg10=5. total=1\n", None, 0),
            ("empty", "", None, 0),
        ] {
            let root = tree(&[("memory", content)]);
            let expected = some.map(|some| Psi {
                some_avg10: Permille(some),
                full_avg10: Permille(full),
            });
            let path = root.path().join("memory");
            assert_eq!(read(&path), expected, "{name}");
            assert_eq!(find([path.clone()]).is_some(), some.is_some(), "{name}");
        }
    }

    #[test]
    fn the_first_readable_pressure_file_is_used() {
        let root = tree(&[("own", ""), ("system", "some avg10=1.00\n")]);
        let [own, system] = ["own", "system"].map(|name| root.path().join(name));
        assert_eq!(find([own, system.clone()]), Some(system));
    }
}
