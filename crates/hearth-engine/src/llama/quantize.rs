//! Rewrites a model file in another quantization type.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use hearth_proto::{Failure, FailureKind};
use llama_cpp_sys_2 as sys;

use super::file::invalid;
use super::imatrix::Imatrix;

/// Bytes of rows in memory at once, as they are read, as floats and as they are written.
pub const BUFFER_BYTES: usize = 64 << 20;

/// The parameters of a quantization.
#[derive(Debug)]
pub struct Quantize<'a> {
    /// The file that is read.
    pub from: &'a Path,
    /// The file that is written.
    pub to: &'a Path,
    /// `enum llama_ftype`.
    pub file_type: u32,
    /// The importance of each matrix's columns.
    pub imatrix: Option<&'a Imatrix>,
    /// Compute threads.
    pub threads: u32,
    /// Whether quantized tensors may be quantized again.
    pub allow_requantize: bool,
}

/// The result, or the predicted result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Tensors so far.
    pub tensors: u64,
    /// Bytes of the written tensors according to llama.cpp's log: accurate to some KiB
    /// each.
    pub bytes: u64,
    /// Tensors that are stored in a fallback type, since their rows are not a multiple of
    /// a block.
    pub fallbacks: u64,
    /// Whether the type cannot be made without an importance matrix.
    pub needs_imatrix: bool,
}

/// Rewrites the file, or with `is_trial` only predicts the result. Needs a started
/// [`super::Runtime`], which the argument proves.
///
/// # Errors
/// What llama.cpp reports: `OutOfMemory`, `ModelInvalid`, or `Io` where the file cannot
/// be written.
pub fn quantize(
    _: &super::Runtime,
    wanted: &Quantize<'_>,
    is_trial: bool,
    mut report: impl FnMut(u64, u64) + 'static,
) -> Result<Outcome, Failure> {
    let name = |path: &Path| {
        CString::new(path.as_os_str().as_bytes())
            .map_err(|_| invalid(path, "its name holds a zero byte"))
    };
    let (from, to) = (name(wanted.from)?, name(wanted.to)?);
    let entries = wanted.imatrix.map(Imatrix::entries).unwrap_or_default();
    let mut entries: Vec<sys::llama_model_imatrix_data> = entries
        .iter()
        .map(|(name, values)| sys::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: values.as_ptr(),
            size: values.len(),
        })
        .collect();
    entries.push(sys::llama_model_imatrix_data {
        name: std::ptr::null(),
        data: std::ptr::null(),
        size: 0,
    });
    let notes = wanted.imatrix.map(overrides).unwrap_or_default();
    // SAFETY: returns a struct by value.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.nthread = wanted.threads.max(1).cast_signed();
    params.ftype = wanted.file_type;
    params.allow_requantize = wanted.allow_requantize;
    params.dry_run = is_trial;
    params.max_buf_size = BUFFER_BYTES;
    if wanted.imatrix.is_some() {
        params.imatrix = entries.as_ptr();
        params.kv_overrides = notes.as_ptr();
    }
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let heard = Rc::clone(&outcome);
    let listener = Box::new(move |line: &str| {
        let mut outcome = heard.borrow_mut();
        if let Some((done, total)) = hear(line, &mut outcome) {
            report(done, total);
        }
    });
    _ = super::log::take_errors();
    // SAFETY: names, importance matrix (which ends with a null name) and overrides (which
    // end with an empty key) outlive the call; it catches its own exceptions.
    let code = super::log::listen(listener, || unsafe {
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    });
    if code == 0 {
        return Ok(outcome.borrow().clone());
    }
    let why = super::log::take_errors().join("; ");
    Err(failure(wanted, &why))
}

fn failure(wanted: &Quantize<'_>, why: &str) -> Failure {
    let (from, to) = (wanted.from.display(), wanted.to.display());
    if why.contains("bad_alloc") || why.contains("allocate") {
        let message = format!("no memory to quantize {from} ({why}): stop something else first");
        return Failure::new(FailureKind::OutOfMemory, message);
    }
    // All that std::ofstream reports.
    if why.contains("basic_ios::clear") || why.contains("iostream error") {
        let message = format!("cannot write {to} ({why}): is the disk full?");
        return Failure::new(FailureKind::Io, message);
    }
    if why.contains("imatrix") {
        let message = format!("the importance matrix does not fit {from}: {why}");
        return Failure::invalid(message);
    }
    invalid(wanted.from, why)
}

/// Parses a line of the log: a tensor is done, or a warning. Returns the number of
/// finished tensors, and the total.
fn hear(line: &str, outcome: &mut Outcome) -> Option<(u64, u64)> {
    if line.contains("will require an imatrix") {
        outcome.needs_imatrix = true;
    }
    if let Some((_, rest)) = line.split_once("WARNING: ")
        && let Some((count, _)) = rest.split_once(" of ")
        && rest.ends_with("required fallback quantization")
    {
        outcome.fallbacks = count.parse().unwrap_or(0);
    }
    let (numbers, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (done, total) = numbers.split_once('/')?;
    let (done, total) = (done.trim().parse().ok()?, total.trim().parse().ok()?);
    // `size = 1.00 MiB -> 0.28 MiB`, or one size where it does not change.
    let (_, sizes) = rest.rsplit_once("size =")?;
    let last = sizes.rsplit_once("-> ").map_or(sizes, |(_, new)| new);
    let mib: f64 = last.trim().split(' ').next()?.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size"
    )]
    let bytes = (mib * 1_048_576.0).ceil() as u64;
    outcome.tensors = done;
    outcome.bytes = outcome.bytes.saturating_add(bytes);
    Some((done, total))
}

/// The metadata about the importance matrix for the new file, under the keys of
/// llama.cpp's `llama-quantize`; the last one is empty.
fn overrides(imatrix: &Imatrix) -> Vec<sys::llama_model_kv_override> {
    let blank = || {
        // SAFETY: the struct is plain numbers and bytes; all zeros is an empty key.
        unsafe { std::mem::zeroed::<sys::llama_model_kv_override>() }
    };
    let put = |text: &str, into: &mut [c_char; 128]| {
        // The last byte stays zero.
        for (to, from) in into[..127].iter_mut().zip(text.bytes()) {
            // `c_char` is signed or unsigned, depending on the platform.
            *to = c_char::from_ne_bytes([from]);
        }
    };
    let text = |key: &str, value: &str| {
        let mut entry = blank();
        entry.tag = sys::LLAMA_KV_OVERRIDE_TYPE_STR;
        put(key, &mut entry.key);
        let mut bytes = [0; 128];
        put(value, &mut bytes);
        entry.__bindgen_anon_1.val_str = bytes;
        entry
    };
    let number = |key: &str, value: usize| {
        let mut entry = blank();
        entry.tag = sys::LLAMA_KV_OVERRIDE_TYPE_INT;
        put(key, &mut entry.key);
        entry.__bindgen_anon_1.val_i64 = i64::try_from(value).unwrap_or(i64::MAX);
        entry
    };
    let mut all = vec![
        text("quantize.imatrix.file", &imatrix.file_name),
        number("quantize.imatrix.entries_count", imatrix.len()),
        number("quantize.imatrix.chunks_count", imatrix.chunks as usize),
    ];
    if let Some(dataset) = &imatrix.dataset {
        all.push(text("quantize.imatrix.dataset", dataset));
    }
    all.push(blank());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as llama.cpp 0.1.161 of the crate writes them.
    #[test]
    fn fallbacks_are_counted_from_the_log() {
        let mut outcome = Outcome::default();
        let line = "[   2/ 291] blk.0.attn_k.weight                  - [  896,   128,     1,     1], \
                    type =    f16, converting to q4_0 .. size =     0.22 MiB ->     0.06 MiB";
        assert_eq!(hear(line, &mut outcome), Some((2, 291)));
        let same =
            "[   3/ 291] blk.0.attn_norm.weight - [  896], type =    f32, size =    0.003 MiB";
        assert_eq!(hear(same, &mut outcome), Some((3, 291)));
        let trial =
            "[   4/ 291] x - [  896], type =    f16, size =     1.00 MiB ->     0.50 MiB (q8_0)";
        assert_eq!(hear(trial, &mut outcome), Some((4, 291)));
        let mib = |n: f64| (n * 1_048_576.0).ceil();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let bytes = outcome.bytes as f64;
        assert!((bytes - mib(0.06) - mib(0.003) - mib(0.5)).abs() < 1.0);
        let fallback = "llama_model_quantize_impl: WARNING: 24 of 291 tensor(s) required fallback quantization";
        assert_eq!(hear(fallback, &mut outcome), None);
        assert_eq!((outcome.tensors, outcome.fallbacks), (4, 24));
        for noise in ["", "[", "[a/b] x size = 1 MiB", "[1/2]", "[ 1/ 2] size = y"] {
            assert_eq!(hear(noise, &mut outcome), None, "{noise}");
        }
    }
}
