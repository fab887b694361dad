//! A folder of the daemon's: models, prompts, and a board.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::board::Board;

/// A temporary folder with the folders of a daemon.
#[derive(Debug)]
pub struct Folder {
    dir: TempDir,
}

impl Folder {
    /// A folder with one packaged model of this name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn with_model(name: &str) -> io::Result<Self> {
        let folder = Self {
            dir: tempfile::tempdir()?,
        };
        for path in [folder.models(), folder.packaged()] {
            fs::create_dir(path)?;
        }
        write_header(&folder.packaged().join(format!("{name}.gguf")))?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of imported models.
    pub fn models(&self) -> PathBuf {
        self.path().join("models")
    }

    /// The folder of packaged models.
    pub fn packaged(&self) -> PathBuf {
        self.path().join("packaged")
    }

    /// The folder of cached prompts.
    pub fn prompts(&self) -> PathBuf {
        self.path().join("prompts")
    }

    /// The file with measurements.
    pub fn tuning(&self) -> PathBuf {
        self.path().join("tuning.json")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("hearthd.sock")
    }

    /// The board, whose files are read in place of the machine's.
    pub fn board(&self) -> Board {
        Board::at(self.path().join("board"))
    }

    /// Adds an imported model whose weights have this size.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add_model_of(&self, name: &str, mib: u64) -> io::Result<()> {
        write_sized(&self.models().join(format!("{name}.gguf")), mib)
    }

    /// Adds an imported model; one of that name is replaced by another file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add_model(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.models().join(format!("{name}.gguf"));
        let new = self.path().join("new.gguf");
        write_header(&new)?;
        fs::rename(new, &path)?;
        Ok(path)
    }
}

/// A model file with one tensor of this size; it takes no space on the disk.
fn write_sized(path: &Path, mib: u64) -> io::Result<()> {
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend(1u64.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(1u64.to_le_bytes());
    header.push(b't');
    // One dimension, 32-bit floats, at the beginning of the data.
    header.extend(1u32.to_le_bytes());
    header.extend((mib * 1024 * 1024 / 4).to_le_bytes());
    header.extend([0; 4 + 8]);
    fs::write(path, &header)?;
    let data = u64::try_from(header.len().next_multiple_of(32)).map_err(io::Error::other)?;
    let file = fs::File::options().write(true).open(path)?;
    file.set_len(data + mib * 1024 * 1024)
}

/// A model file that has a header without keys and tensors.
fn write_header(path: &Path) -> io::Result<()> {
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.resize(24, 0);
    fs::write(path, header)
}
