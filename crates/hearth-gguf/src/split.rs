//! Merging models that are split over several files.
//!
//! `llama-gguf-split` names them `NAME-00001-of-00003.gguf`. The first has the metadata;
//! each has the descriptions and the data of its own tensors, and the keys `split.*`,
//! which a merged file does not need.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};

use super::read::{bounded, numbers, skip, string, u32, u64};
use super::{COUNT_MAX, ElementType, GgufError};

/// No real model has as many files.
const PARTS_MAX: u32 = 999;
/// ggml's default alignment of tensor data (`GGUF_DEFAULT_ALIGNMENT`).
const ALIGNMENT: u64 = 32;
/// No real header is as long; the largest vocabularies make 20 MB.
const HEADER_MAX: u64 = 256 << 20;
/// Bytes copied between two progress reports: small enough for a smooth progress bar.
const STEP: u64 = 16 << 20;

/// The name of one file of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    /// The part before the numbers.
    pub stem: String,
    /// Number of this file, from 1.
    pub part: u32,
    /// Number of files.
    pub of: u32,
}

impl PartName {
    /// Parses a file's name; `None` if it does not have this form.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, of) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, part) = rest.rsplit_once('-')?;
        let number = |digits: &str| {
            let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| plain)
        };
        let (part, of) = (number(part)?, number(of)?);
        let fits = !stem.is_empty() && part >= 1 && part <= of && of <= PARTS_MAX;
        fits.then(|| Self {
            stem: stem.to_owned(),
            part,
            of,
        })
    }

    /// The names of all its files, in order.
    pub fn all(&self) -> Vec<String> {
        let (stem, of) = (&self.stem, self.of);
        let name = |part| format!("{stem}-{part:05}-of-{of:05}.gguf");
        (1..=of).map(name).collect()
    }
}

/// Why files cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One of them cannot be used.
    #[error("part {part}: {source}")]
    Part {
        /// Its number, from 1.
        part: usize,
        /// Why.
        source: GgufError,
    },
    /// They do not belong together.
    #[error("part {part} is not one of these files: {why}")]
    Stranger {
        /// Its number, from 1.
        part: usize,
        /// What does not match.
        why: &'static str,
    },
    /// The merged file cannot be written.
    #[error("cannot write the whole model: {0}")]
    Write(io::Error),
}

/// Writes the model whose files are `parts`, in order, to `out`, which is empty.
/// `progress` is called with the bytes written so far and the total.
///
/// # Errors
/// [`MergeError`]; the partial output is then unusable.
pub fn merge(
    parts: &[File],
    out: &mut File,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), MergeError> {
    let mut layouts = Vec::new();
    for (n, file) in (1..).zip(parts) {
        layouts.push(Layout::read(file).map_err(|source| MergeError::Part { part: n, source })?);
    }
    belong_together(&layouts)?;
    let header = header(&layouts);
    let data: u64 = layouts.iter().map(|l| l.data_bytes).sum();
    let (mut done, total) = (header.len() as u64, header.len() as u64 + data);
    out.write_all(&header).map_err(MergeError::Write)?;
    for (layout, mut file) in layouts.iter().zip(parts) {
        file.seek(SeekFrom::Start(layout.data_start))
            .map_err(MergeError::Write)?;
        let mut left = layout.data_bytes;
        while left > 0 {
            progress(done, total);
            // `copy` of a part of a file is done in the kernel.
            let mut step = file.take(left.min(STEP));
            let copied = io::copy(&mut step, out).map_err(MergeError::Write)?;
            if copied == 0 {
                // The padding after the last tensor may be missing.
                io::copy(&mut io::repeat(0).take(left), out).map_err(MergeError::Write)?;
                done += left;
                break;
            }
            left -= copied;
            done += copied;
        }
    }
    progress(total, total);
    Ok(())
}

fn belong_together(layouts: &[Layout]) -> Result<(), MergeError> {
    let first = layouts.first().map_or(0, |l| l.alignment);
    let differs = |said: Option<u32>, is: usize| said.is_some_and(|said| said as usize != is);
    for (n, layout) in layouts.iter().enumerate() {
        let why = if differs(layout.number, n) {
            "it says that it is another one"
        } else if differs(layout.count, layouts.len()) {
            "it says that there are more or fewer"
        } else if layout.alignment != first {
            "its data are aligned differently"
        } else {
            continue;
        };
        return Err(MergeError::Stranger { part: n + 1, why });
    }
    // Checked last: if a file belongs to another model, the error must name that file.
    let tensors: usize = layouts.iter().map(|l| l.tensors.len()).sum();
    match layouts.iter().position(|l| differs(l.total, tensors)) {
        None => Ok(()),
        Some(n) => Err(MergeError::Stranger {
            part: n + 1,
            why: "the tensors of all are more or fewer than it says",
        }),
    }
}

/// The header of the merged file, padded up to the data.
fn header(layouts: &[Layout]) -> Vec<u8> {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    let tensors: u64 = layouts.iter().map(|l| l.tensors.len() as u64).sum();
    head.extend(tensors.to_le_bytes());
    // The others repeat the first one's value, if they have one.
    let alignment = layouts.first().map_or(ALIGNMENT, |first| {
        head.extend(first.pair_count.to_le_bytes());
        head.extend(&first.pairs);
        first.alignment
    });
    let mut before = 0;
    for layout in layouts {
        for tensor in &layout.tensors {
            head.extend(&tensor.description);
            head.extend((before + tensor.offset).to_le_bytes());
        }
        before += layout.data_bytes;
    }
    let padded = (head.len() as u64).next_multiple_of(alignment);
    head.resize(usize::try_from(padded).unwrap_or(head.len()), 0);
    head
}

/// The layout of one file.
struct Layout {
    /// The raw bytes of the key-values without `split.*`.
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<Tensor>,
    alignment: u64,
    data_start: u64,
    /// Bytes of the tensors' data, padding included.
    data_bytes: u64,
    /// `split.no`, from 0.
    number: Option<u32>,
    /// `split.count`.
    count: Option<u32>,
    /// `split.tensors.count`.
    total: Option<u32>,
}

struct Tensor {
    /// The raw bytes of name, dimensions and type.
    description: Vec<u8>,
    /// Where its data begin, counted from those of the first.
    offset: u64,
}

impl Layout {
    fn read(mut file: &File) -> Result<Self, GgufError> {
        let size = file.metadata()?.len();
        file.rewind()?;
        let mut from = Recorded {
            from: BufReader::new(file).take(HEADER_MAX),
            seen: Vec::new(),
            before: 0,
        };
        let mut magic = [0; 4];
        from.read_exact(&mut magic).map_err(|_| GgufError::Magic)?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic);
        }
        let version = u32(&mut from)?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = bounded(u64(&mut from)?, COUNT_MAX, "tensor count")?;
        let pairs = bounded(u64(&mut from)?, COUNT_MAX, "key count")?;
        let mut layout = Self {
            pairs: Vec::new(),
            pair_count: 0,
            tensors: Vec::new(),
            alignment: ALIGNMENT,
            data_start: 0,
            data_bytes: 0,
            number: None,
            count: None,
            total: None,
        };
        for _ in 0..pairs {
            layout.pair(&mut from)?;
        }
        let mut end = 0;
        for _ in 0..tensors {
            end = end.max(layout.tensor(&mut from)?);
        }
        layout.data_start = from.position().next_multiple_of(layout.alignment);
        if layout.data_start.saturating_add(end) > size {
            return Err(GgufError::Broken("the file is cut off"));
        }
        layout.data_bytes = end.next_multiple_of(layout.alignment);
        Ok(layout)
    }

    fn pair<R: Read>(&mut self, from: &mut Recorded<R>) -> Result<(), GgufError> {
        from.forget();
        let key = string(from)?;
        let kind = u32(from)?;
        let known = match key.as_str() {
            "split.no" => &mut self.number,
            "split.count" => &mut self.count,
            "split.tensors.count" => &mut self.total,
            "general.alignment" => {
                let n = numbers(from, kind)?.first().copied().unwrap_or(0);
                // Powers of two only, as in ggml; a huge one would pad without end.
                if !n.is_power_of_two() || n > 1 << 20 {
                    return Err(GgufError::Broken("general.alignment"));
                }
                self.alignment = n.into();
                self.keep(from);
                return Ok(());
            }
            _ => {
                skip(from, kind)?;
                self.keep(from);
                return Ok(());
            }
        };
        *known = numbers(from, kind)?.first().copied();
        Ok(())
    }

    fn keep<R>(&mut self, from: &Recorded<R>) {
        self.pairs.extend(&from.seen);
        self.pair_count += 1;
    }

    /// Reads one description; returns where the tensor's data end.
    fn tensor<R: Read>(&mut self, from: &mut Recorded<R>) -> Result<u64, GgufError> {
        from.forget();
        drop(string(from)?);
        let dimensions = bounded(
            u32(from)?.into(),
            4,
            "a tensor of more than four dimensions",
        )?;
        let mut elements = 1u64;
        for _ in 0..dimensions {
            elements = elements.saturating_mul(u64(from)?);
        }
        let element = ElementType(u32(from)?);
        let description = from.seen.clone();
        let offset = u64(from)?;
        if !element.is_known() {
            return Err(GgufError::Broken("a tensor of an unknown type"));
        }
        self.tensors.push(Tensor {
            description,
            offset,
        });
        Ok(offset.saturating_add(element.bytes(elements)))
    }
}

/// Keeps what was read since [`Recorded::forget`].
struct Recorded<R> {
    from: R,
    seen: Vec<u8>,
    before: u64,
}

impl<R> Recorded<R> {
    fn forget(&mut self) {
        self.before += self.seen.len() as u64;
        self.seen.clear();
    }

    fn position(&self) -> u64 {
        self.before + self.seen.len() as u64
    }
}

impl<R: Read> Read for Recorded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.seen.extend(buffer.iter().take(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_are_parsed_and_generated() {
        let name = PartName::parse("x-00002-of-00003.gguf").unwrap();
        assert_eq!((name.stem.as_str(), name.part, name.of), ("x", 2, 3));
        assert_eq!(name.all()[0], "x-00001-of-00003.gguf");
        for other in [
            "x.gguf",
            "x-00001-of-00003.bin",
            "x-1-of-3.gguf",
            "x-00000-of-00003.gguf",
            "x-00004-of-00003.gguf",
            "-00001-of-00001.gguf",
            "x-0000a-of-00003.gguf",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
    }
}
