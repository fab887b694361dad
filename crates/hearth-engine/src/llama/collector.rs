//! Sums up the inputs of a model's matrices while it computes.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};

use llama_cpp_sys_2 as sys;

use super::imatrix::Sums;

/// Batches with fewer tokens are not counted: llama.cpp's `llama-imatrix` leaves them out,
/// too.
const ROWS_MIN: i64 = 16;

/// Squares of inputs by column, and how many there were.
#[derive(Clone, Debug, Default)]
struct Sum {
    squares: Vec<f64>,
    counts: Vec<u64>,
}

/// Sums up the squared inputs of each of a model's matrices, by column: which columns
/// quantization should preserve best.
#[derive(Debug, Default)]
pub struct Collector {
    sums: Mutex<BTreeMap<String, Sum>>,
}

impl Collector {
    /// The sums so far.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "the file keeps 32-bit floats"
    )]
    pub fn sums(&self) -> BTreeMap<String, Sums> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let rounded = sums.iter().map(|(name, sum)| {
            let rounded = Sums {
                squares: sum.squares.iter().map(|s| *s as f32).collect(),
                counts: sum.counts.iter().map(|n| *n as f32).collect(),
            };
            (name.clone(), rounded)
        });
        rounded.collect()
    }

    fn add(&self, name: &str, experts: usize, counts: usize, rows: &[(usize, &[f32])]) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = sums.entry(name.to_owned()).or_default();
        for (expert, row) in rows {
            sum.squares.resize(row.len() * experts, 0.0);
            sum.counts.resize(counts, 0);
            let begin = expert * row.len();
            let squares = &mut sum.squares[begin..begin + row.len()];
            for (square, value) in squares.iter_mut().zip(*row) {
                *square += f64::from(*value).powi(2);
            }
            // Where the matrices of a tensor share one count, only the first is counted.
            if counts == experts {
                sum.counts[*expert] += 1;
            } else if *expert == 0 {
                sum.counts[0] += 1;
            }
        }
    }
}

/// ggml asks for every node before it computes whether it is wanted (`ask`), and calls
/// again when it is computed. Never stops the computation.
pub(super) unsafe extern "C" fn collect(
    node: *mut sys::ggml_tensor,
    ask: bool,
    collector: *mut c_void,
) -> bool {
    // SAFETY: the context's owner keeps the `Arc<Collector>` alive as long as the context;
    // ggml passes a valid node, and sources that are not null are valid, too.
    unsafe {
        let collector = &*collector.cast::<Collector>();
        let node = &*node;
        let by_id = node.op == sys::GGML_OP_MUL_MAT_ID;
        let (Some(matrix), Some(input)) = (node.src[0].as_ref(), node.src[1].as_ref()) else {
            return !ask;
        };
        let Ok(name) = CStr::from_ptr(matrix.name.as_ptr()).to_str() else {
            return !ask;
        };
        let is_wanted = (by_id || node.op == sys::GGML_OP_MUL_MAT && input.ne[1] >= ROWS_MIN)
            && input.type_ == sys::GGML_TYPE_F32
            && name.starts_with("blk.");
        if ask || !is_wanted {
            return is_wanted || !ask;
        }
        let experts = usize::try_from(matrix.ne[2] * matrix.ne[3])
            .unwrap_or(1)
            .max(1);
        let (rows, counts) = if by_id {
            (chosen_rows(node, input, experts), experts)
        } else {
            (all_rows(matrix, input), 1)
        };
        collector.add(name, experts, counts, &rows);
    }
    true
}

/// A row of a tensor of 32-bit floats.
///
/// # Safety
/// The tensor's data are in this process's memory, and `at` is inside its shape.
unsafe fn row(of: &sys::ggml_tensor, at: [i64; 3]) -> &[f32] {
    let place = |n: usize| usize::try_from(at[n]).unwrap_or(0) * of.nb[n + 1];
    let columns = usize::try_from(of.ne[0]).unwrap_or(0);
    // SAFETY: strides and shape are ggml's, rows of floats are contiguous (checked by
    // `collect`: type F32, of which matrix products take contiguous rows only).
    unsafe {
        let begin = of.data.cast::<u8>().add(place(0) + place(1) + place(2));
        std::slice::from_raw_parts(begin.cast(), columns)
    }
}

/// Every row, with the matrix that it is multiplied by: a tensor may contain several.
///
/// # Safety
/// The input's data are in this process's memory: there is no other backend than the CPU.
unsafe fn all_rows<'a>(
    matrix: &sys::ggml_tensor,
    input: &'a sys::ggml_tensor,
) -> Vec<(usize, &'a [f32])> {
    let mut rows = Vec::new();
    for i3 in 0..input.ne[3] {
        for i2 in 0..input.ne[2] {
            let which = i3 % matrix.ne[3].max(1) * matrix.ne[2] + i2 % matrix.ne[2].max(1);
            for i1 in 0..input.ne[1] {
                // SAFETY: inside the shape.
                let row = unsafe { row(input, [i1, i2, i3]) };
                rows.push((usize::try_from(which).unwrap_or(0), row));
            }
        }
    }
    rows
}

/// Each token's row once for each expert that was chosen for it.
///
/// # Safety
/// As [`all_rows`]; the node is a `MUL_MAT_ID`, whose third source holds the experts'
/// numbers, a row of 32-bit numbers for each token.
unsafe fn chosen_rows<'a>(
    node: &sys::ggml_tensor,
    input: &'a sys::ggml_tensor,
    experts: usize,
) -> Vec<(usize, &'a [f32])> {
    // SAFETY: see above.
    let Some(ids) = (unsafe { node.src[2].as_ref() }) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for token in 0..input.ne[2].min(ids.ne[1]) {
        for n in 0..ids.ne[0] {
            let place = |i: i64, stride: usize| usize::try_from(i).unwrap_or(0) * stride;
            // SAFETY: inside the shape of `ids`.
            let expert = unsafe {
                ids.data
                    .byte_add(place(token, ids.nb[1]) + place(n, ids.nb[0]))
                    .cast::<i32>()
                    .read_unaligned()
            };
            let expert = usize::try_from(expert).unwrap_or(usize::MAX);
            if expert < experts {
                // SAFETY: inside the shape; `ne[1]` is 1 or the number of chosen experts.
                let row = unsafe { row(input, [n % input.ne[1].max(1), token, 0]) };
                rows.push((expert, row));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_by_column_and_expert() {
        let collector = Collector::default();
        collector.add("a", 1, 1, &[(0, &[1.0, 2.0]), (0, &[3.0, -1.0])]);
        collector.add("b", 2, 2, &[(1, &[2.0])]);
        // Two matrices in one tensor, one count.
        collector.add("c", 2, 1, &[(0, &[1.0]), (1, &[5.0])]);
        let sums = collector.sums();
        let of = |name: &str| (sums[name].squares.clone(), sums[name].counts.clone());
        assert_eq!(of("a"), (vec![10.0, 5.0], vec![2.0]));
        assert_eq!(of("b"), (vec![0.0, 4.0], vec![0.0, 1.0]));
        assert_eq!(of("c"), (vec![1.0, 25.0], vec![1.0]));
    }
}
