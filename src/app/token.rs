//! The file that `http.token_file` names.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::config::Token;

/// The longest file read, in bytes.
const BYTES_MAX: u64 = 4096;
/// Permissions that let every user read or write the secret.
const OTHERS: u32 = 0o006;

/// Reads the token; `None` where no file is named.
///
/// # Errors
/// A message that names the file and what is wrong with it.
pub(super) fn read(file: &Path) -> Result<Option<Token>, String> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    read_in(credentials.as_deref(), file).map(Some)
}

fn read_in(credentials: Option<&Path>, file: &Path) -> Result<Token, String> {
    let path = match credentials {
        _ if file.is_absolute() => file.to_owned(),
        Some(folder) => folder.join(file),
        None => {
            let name = file.display();
            return Err(format!(
                "the service has no credential {name}: add LoadCredential={name}:/path/to/its/file \
                 to the unit, or use an absolute path"
            ));
        }
    };
    let shown = path.display();
    let failed =
        |e| format!("cannot read {shown}: {e}; the user of the service must be able to read it");
    let meta = fs::metadata(&path).map_err(failed)?;
    if !meta.is_file() {
        return Err(format!(
            "{shown} is not a regular file: write the token into one"
        ));
    }
    if meta.permissions().mode() & OTHERS != 0 {
        return Err(format!(
            "{shown} can be read or written by all users: run `chmod o-rw {shown}`"
        ));
    }
    let mut bytes = Vec::new();
    let size = File::open(&path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if size as u64 > BYTES_MAX {
        return Err(format!(
            "{shown} has more than {BYTES_MAX} bytes: write only the token into it"
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{shown} is not UTF-8 text: write only the token into it"))?;
    Token::parse(&text).map_err(|wrong| format!("{shown} {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_or_the_error_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        assert_eq!(read(Path::new("")), Ok(None));
        let good = write("good", b"secret\n", 0o640);
        assert!(read_in(None, &good).unwrap().matches(b"secret"));
        let named = read_in(Some(dir.path()), Path::new("good"));
        assert!(named.unwrap().matches(b"secret"));
        for (path, part) in [
            ("good".into(), "LoadCredential=good:"),
            ("/nonexistent".into(), "cannot read /nonexistent"),
            (dir.path().to_owned(), "is not a regular file"),
            (write("open", b"x", 0o644), "chmod o-rw"),
            (write("shared", b"x", 0o602), "chmod o-rw"),
            (write("empty", b"\n", 0o600), "empty: "),
            (write("binary", b"\xff", 0o600), "is not UTF-8"),
            (write("long", &[b'x'; 5000], 0o600), "4096 bytes"),
            (write("words", b"two words", 0o600), "only the token"),
        ] {
            let message = read_in(None, &path).unwrap_err();
            assert!(message.contains(part), "{}: {message}", path.display());
        }
    }
}
