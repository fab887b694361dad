//! Importance matrices: for each matrix of a model how strongly each of its columns was
//! used, and the file format that llama.cpp's tools use for them.
//!
//! The file is a GGUF (llama.cpp's `common/imatrix-loader.cpp`): for each matrix `NAME` a
//! tensor `NAME.in_sum2`, the sums of the squared inputs of each column, one row for each
//! expert, and `NAME.counts`, the number of inputs of each row.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hearth_gguf::write::{self, ElementType, Tensor, Value};
use hearth_proto::{Failure, FailureKind};
use llama_cpp_sys_2 as sys;

/// The largest file that is accepted; for a model of a few billion weights it has 10 MB.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Sums of the squared inputs of a matrix's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// By expert, and by column within an expert.
    pub squares: Vec<f32>,
    /// Number of inputs of each expert; one number where there are no experts.
    pub counts: Vec<f32>,
}

impl Sums {
    /// The mean of each column; where an expert was never used, ones.
    fn means(&self) -> Vec<f32> {
        let columns = self.squares.len() / self.counts.len().max(1);
        let rows = self.squares.chunks(columns.max(1)).zip(&self.counts);
        rows.flat_map(|(row, count)| {
            row.iter()
                .map(move |sum| if *count > 0.0 { sum / count } else { 1.0 })
        })
        .collect()
    }
}

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// The name of its file.
    pub file_name: String,
    /// The name of the text that it was made from.
    pub dataset: Option<String>,
    /// Chunks of that text.
    pub chunks: u32,
    /// Tokens of a chunk.
    pub chunk_tokens: u32,
    /// By the matrices' names.
    pub sums: BTreeMap<String, Sums>,
    means: Vec<(CString, Vec<f32>)>,
}

impl Imatrix {
    /// Creates one from these sums.
    pub fn new(sums: BTreeMap<String, Sums>, dataset: String, chunks: u32, tokens: u32) -> Self {
        Self {
            dataset: Some(dataset),
            chunks,
            chunk_tokens: tokens,
            sums,
            ..Self::default()
        }
    }

    /// The number of matrices.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether it has no matrices.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The means that llama.cpp quantizes with.
    pub(super) fn entries(&self) -> &[(CString, Vec<f32>)] {
        &self.means
    }

    /// Writes it as llama.cpp's `llama-imatrix` does.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let dataset = self.dataset.iter().cloned().collect();
        let values = [
            ("general.type", Value::Text("imatrix".to_owned())),
            ("imatrix.datasets", Value::Texts(dataset)),
            ("imatrix.chunk_count", Value::U32(self.chunks)),
            ("imatrix.chunk_size", Value::U32(self.chunk_tokens)),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        let mut tensors = Vec::new();
        let mut data = Vec::new();
        for (name, sums) in &self.sums {
            let experts = sums.counts.len().max(1) as u64;
            let columns = sums.squares.len() as u64 / experts;
            for (suffix, columns, numbers) in [
                ("in_sum2", columns, &sums.squares),
                ("counts", 1, &sums.counts),
            ] {
                tensors.push(Tensor {
                    name: format!("{name}.{suffix}"),
                    shape: vec![columns, experts],
                    element: ElementType::F32,
                });
                data.push(numbers);
            }
        }
        write::write_header(out, &values, &tensors)?;
        for numbers in data {
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            out.write_all(&bytes)?;
            write::pad(out, bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Reads an importance matrix.
    ///
    /// # Errors
    /// `Io`, or `InvalidArgs` that says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let cannot = cannot(path);
        let mut file = File::open(path).map_err(&cannot)?;
        let length = file.metadata().map_err(&cannot)?.len();
        let mut magic = [0; 4];
        let begins = file.read_exact(&mut magic).is_ok();
        if !begins || magic != *b"GGUF" {
            return Err(wrong(
                path,
                "it is not a GGUF file (older llama.cpp wrote .dat files)",
            ));
        }
        if length > FILE_BYTES_MAX {
            return Err(wrong(path, "it is too large for one"));
        }
        let header = Header::open(path).ok_or_else(|| {
            wrong(
                path,
                &format!(
                    "its header is damaged: {}",
                    super::log::take_errors().join("; ")
                ),
            )
        })?;
        let mut parts: BTreeMap<String, Sums> = BTreeMap::new();
        for tensor in header.tensors() {
            let Some((name, suffix)) = tensor.name.rsplit_once('.') else {
                continue;
            };
            if !["in_sum2", "counts"].contains(&suffix) {
                continue;
            }
            let numbers = numbers(path, &mut file, length, &tensor)?;
            let sums = parts.entry(name.to_owned()).or_default();
            match suffix {
                "counts" => sums.counts = numbers,
                _ => sums.squares = numbers,
            }
        }
        let mut matrix = Self {
            file_name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            dataset: header.dataset(),
            chunks: header.number(c"imatrix.chunk_count"),
            chunk_tokens: header.number(c"imatrix.chunk_size"),
            sums: parts,
            means: Vec::new(),
        };
        if matrix.is_empty() {
            return Err(wrong(path, "it has no sums"));
        }
        matrix.set_means().map_err(|why| wrong(path, &why))?;
        Ok(matrix)
    }

    /// Computes the means; or says which sums are wrong.
    fn set_means(&mut self) -> Result<(), String> {
        for (name, sums) in &self.sums {
            let (all, experts) = (sums.squares.len(), sums.counts.len());
            if all == 0 || experts == 0 || !all.is_multiple_of(experts) {
                return Err(format!("the sums and counts of {name} do not match"));
            }
            let name = CString::new(name.as_str()).map_err(|_| "a name is damaged")?;
            self.means.push((name, sums.means()));
        }
        Ok(())
    }
}

fn cannot(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let shown = path.display().to_string();
    move |error| {
        let message = format!("the importance matrix {shown}: {error}");
        Failure::new(FailureKind::Io, message)
    }
}

fn wrong(path: &Path, why: &str) -> Failure {
    Failure::invalid(format!(
        "{} is not an importance matrix: {why}; create one with hearthctl imatrix",
        path.display()
    ))
}

/// The numbers of a tensor in a file of this length.
fn numbers(path: &Path, file: &mut File, length: u64, tensor: &Entry) -> Result<Vec<f32>, Failure> {
    let cannot = cannot(path);
    let bytes = tensor.numbers.checked_mul(4);
    let bytes = bytes.filter(|bytes| {
        let end = tensor.offset.checked_add(*bytes);
        tensor.is_f32 && end.is_some_and(|end| end <= length)
    });
    let Some(bytes) = bytes else {
        return Err(wrong(
            path,
            &format!(
                "{} is truncated or does not consist of 32-bit floats",
                tensor.name
            ),
        ));
    };
    let mut data = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.seek(SeekFrom::Start(tensor.offset)).map_err(&cannot)?;
    file.read_exact(&mut data).map_err(&cannot)?;
    let (words, _) = data.as_chunks::<4>();
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    if numbers.iter().any(|n| !n.is_finite() || *n < 0.0) {
        return Err(wrong(
            path,
            &format!(
                "{} contains a number that is not a sum of squares",
                tensor.name
            ),
        ));
    }
    Ok(numbers)
}

/// The header's data about a tensor.
struct Entry {
    name: String,
    numbers: u64,
    is_f32: bool,
    /// From the file's beginning.
    offset: u64,
}

/// The header of a GGUF file, read by ggml without the tensors' data.
struct Header(std::ptr::NonNull<sys::gguf_context>);

impl Header {
    fn open(path: &Path) -> Option<Self> {
        let name = CString::new(path.as_os_str().as_bytes()).ok()?;
        let params = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        _ = super::log::take_errors();
        // SAFETY: the name is a string that outlives the call; without a context only the
        // header is read; a failed check returns null.
        let context = unsafe { sys::gguf_init_from_file(name.as_ptr(), params) };
        std::ptr::NonNull::new(context).map(Self)
    }

    fn tensors(&self) -> Vec<Entry> {
        let context = self.0.as_ptr();
        // SAFETY: the context is valid, and the numbers asked for are below its count;
        // names are strings and shapes arrays of four numbers that live as long as it.
        unsafe {
            let begin = sys::gguf_get_data_offset(context) as u64;
            (0..sys::gguf_get_n_tensors(context))
                .map(|n| Entry {
                    name: CStr::from_ptr(sys::gguf_get_tensor_name(context, n))
                        .to_string_lossy()
                        .into_owned(),
                    numbers: sys::gguf_get_tensor_size(context, n) as u64 / 4,
                    is_f32: sys::gguf_get_tensor_type(context, n) == sys::GGML_TYPE_F32,
                    offset: begin.saturating_add(sys::gguf_get_tensor_offset(context, n) as u64),
                })
                .collect()
        }
    }

    /// A number's value; 0 where there is none.
    fn number(&self, key: &CStr) -> u32 {
        let context = self.0.as_ptr();
        // SAFETY: the context is valid; the value is asked for by its type only.
        unsafe {
            let id = sys::gguf_find_key(context, key.as_ptr());
            if id < 0 || sys::gguf_get_kv_type(context, id) != sys::GGUF_TYPE_UINT32 {
                return 0;
            }
            sys::gguf_get_val_u32(context, id)
        }
    }

    /// The first of the texts that it was made from.
    fn dataset(&self) -> Option<String> {
        let context = self.0.as_ptr();
        // SAFETY: as in `number`; the text is a string that lives as long as the context.
        unsafe {
            let id = sys::gguf_find_key(context, c"imatrix.datasets".as_ptr());
            if id < 0
                || sys::gguf_get_kv_type(context, id) != sys::GGUF_TYPE_ARRAY
                || sys::gguf_get_arr_type(context, id) != sys::GGUF_TYPE_STRING
                || sys::gguf_get_arr_n(context, id) == 0
            {
                return None;
            }
            let text = CStr::from_ptr(sys::gguf_get_arr_str(context, id, 0));
            Some(text.to_string_lossy().into_owned())
        }
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { sys::gguf_free(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(squares: &[f32], counts: &[f32]) -> Sums {
        Sums {
            squares: squares.to_vec(),
            counts: counts.to_vec(),
        }
    }

    #[test]
    fn a_written_matrix_is_read_back() {
        let all = BTreeMap::from([
            (
                "blk.0.attn_q.weight".to_owned(),
                sums(&[1.0, 4.0, 9.0], &[2.0]),
            ),
            // Two experts, one of them never used.
            (
                "blk.0.ffn_up_exps.weight".to_owned(),
                sums(&[2.0, 8.0, 0.0, 0.0], &[4.0, 0.0]),
            ),
        ]);
        let made = Imatrix::new(all.clone(), "text.txt".to_owned(), 3, 512);
        let file = tempfile::NamedTempFile::new().unwrap();
        made.write(&mut file.as_file()).unwrap();
        let read = Imatrix::read(file.path()).unwrap();
        assert_eq!(read.sums, all);
        assert_eq!((read.chunks, read.chunk_tokens), (3, 512));
        assert_eq!(read.dataset.as_deref(), Some("text.txt"));
        let means: Vec<_> = read.entries().iter().map(|(_, m)| m.as_slice()).collect();
        assert_eq!(means, [&[0.5, 2.0, 4.5][..], &[0.5, 2.0, 1.0, 1.0]]);
    }

    #[test]
    fn files_that_are_no_matrix_are_refused() {
        let says = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            Imatrix::read(file.path()).unwrap_err().message
        };
        assert!(says(b"").contains("not a GGUF file"));
        assert!(says(b"GGUF\x03\0\0\0").contains("header is damaged"));
        let bytes = |sums: Sums| {
            let all = BTreeMap::from([("m".to_owned(), sums)]);
            let mut bytes = Vec::new();
            Imatrix::new(all, String::new(), 1, 1)
                .write(&mut bytes)
                .unwrap();
            bytes
        };
        let whole = bytes(sums(&[1.0; 64], &[1.0]));
        assert!(says(&whole[..whole.len() - 64]).contains("truncated"));
        assert!(says(&bytes(sums(&[f32::NAN; 4], &[1.0]))).contains("not a sum of squares"));
        let mut none = Vec::new();
        Imatrix::default().write(&mut none).unwrap();
        assert!(says(&none).contains("no sums"), "{}", says(&none));
    }
}
